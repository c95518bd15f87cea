/* tokenizer_trie.c - finds which tokens a text begins with, byte by byte.
 *
 * Owns the tree: a node per distinct beginning of some token, its children side by side in the
 * order of their bytes.  Built once from the sorted texts, level by level, which is what keeps
 * children together; read-only afterwards.  Serves special tokens, WordPiece and Unigram. */
#include "model/tokenizer_impl.h"

#include "base/mem.h"

#include <string.h>

/* ---- sorting by text, a shorter text first ---- */

static int compare(const exo_vocab *v, int32_t a, int32_t b) {
    const exo_token *x = &v->tokens[a], *y = &v->tokens[b];
    uint16_t n = x->n_text < y->n_text ? x->n_text : y->n_text;
    int order = memcmp(v->blob + x->text, v->blob + y->text, n);
    return order != 0 ? order : (x->n_text > y->n_text) - (x->n_text < y->n_text);
}

static void sift_down(const exo_vocab *v, int32_t *ids, size_t root, size_t n) {
    for (size_t child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && compare(v, ids[child], ids[child + 1]) < 0) child++;
        if (compare(v, ids[root], ids[child]) >= 0) return;
        int32_t id = ids[root];
        ids[root] = ids[child];
        ids[child] = id;
    }
}

static void sort(const exo_vocab *v, int32_t *ids, size_t n) {
    for (size_t i = n / 2; i-- > 0;) sift_down(v, ids, i, n);
    for (size_t end = n; end-- > 1;) {
        int32_t id = ids[0];
        ids[0] = ids[end];
        ids[end] = id;
        sift_down(v, ids, 0, end);
    }
}

/* ---- growing ---- */

typedef struct {
    uint32_t lo, hi; /* the sorted ids below a node */
    uint32_t depth;  /* bytes they have in common */
} span;

typedef struct {
    exo_trie *trie;
    const exo_vocab *v;
    const int32_t *ids; /* sorted */
    span *spans;        /* (trie->n) */
    size_t nodes_cap, spans_cap;
} grower;

static bool add_node(grower *g, uint8_t byte, span s) {
    exo_trie *t = g->trie;
    size_t need = (size_t)t->n + 1;
    if (exo_grow((void **)&t->nodes, &g->nodes_cap, need, sizeof *t->nodes) != 0 ||
        exo_grow((void **)&g->spans, &g->spans_cap, need, sizeof *g->spans) != 0)
        return false;
    t->nodes[t->n] = (exo_trie_node){.byte = byte, .id = EXO_NO_TOKEN};
    g->spans[t->n++] = s;
    return true;
}

static uint8_t byte_at(const grower *g, uint32_t k, uint32_t depth) {
    return g->v->blob[g->v->tokens[g->ids[k]].text + depth];
}

static bool add_children(grower *g, uint32_t node) {
    exo_trie *t = g->trie;
    span s = g->spans[node];
    if (s.lo < s.hi && g->v->tokens[g->ids[s.lo]].n_text == s.depth && s.depth > 0)
        t->nodes[node].id = g->ids[s.lo++];
    t->nodes[node].first_child = t->n;
    for (uint32_t lo = s.lo, hi; lo < s.hi; lo = hi) {
        uint8_t byte = byte_at(g, lo, s.depth);
        for (hi = lo + 1; hi < s.hi && byte_at(g, hi, s.depth) == byte;) hi++;
        if (!add_node(g, byte, (span){lo, hi, s.depth + 1})) return false;
        t->nodes[node].n_children++;
    }
    return true;
}

static exo_status check_texts(const exo_vocab *v, const int32_t *ids, size_t n, const char *what,
                              exo_error *err) {
    for (size_t k = 0; k < n; k++) {
        if (v->tokens[ids[k]].n_text > EXO_TRIE_MAX_BYTES)
            return exo_error_set(err, EXO_EFORMAT,
                                 "tokenizer.ggml.tokens[%d] is a %s of more than %d bytes", ids[k],
                                 what, EXO_TRIE_MAX_BYTES);
        if (k > 0 && compare(v, ids[k - 1], ids[k]) == 0)
            return exo_error_set(err, EXO_EFORMAT,
                                 "tokenizer.ggml.tokens[%d] and [%d] are the same %s", ids[k - 1],
                                 ids[k], what);
    }
    return EXO_OK;
}

exo_status exo_trie_init(exo_trie *t, const exo_vocab *v, int32_t *ids, size_t n, const char *what,
                         exo_error *err) {
    *t = (exo_trie){0};
    sort(v, ids, n);
    exo_status status = check_texts(v, ids, n, what, err);
    if (status != EXO_OK) return status;
    grower g = {.trie = t, .v = v, .ids = ids};
    bool ok = add_node(&g, 0, (span){0, (uint32_t)n, 0});
    for (uint32_t node = 0; ok && node < t->n; node++) ok = add_children(&g, node);
    exo_free(g.spans);
    if (!ok) return exo_error_set(err, EXO_ENOMEM, "out of memory for the vocabulary");
    const exo_trie_node *root = &t->nodes[0];
    for (uint32_t i = 0; i < root->n_children; i++) {
        uint32_t child = root->first_child + i;
        t->first[t->nodes[child].byte] = child;
    }
    return EXO_OK;
}

void exo_trie_finish(exo_trie *t) {
    exo_free(t->nodes);
    *t = (exo_trie){0};
}

/* ---- looking up ---- */

uint32_t exo_trie_next(const exo_trie *t, uint32_t node, uint8_t byte) {
    const exo_trie_node *parent = &t->nodes[node];
    uint32_t lo = parent->first_child, end = lo + parent->n_children, hi = end;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (t->nodes[mid].byte < byte) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo < end && t->nodes[lo].byte == byte ? lo : 0;
}

int32_t exo_trie_longest(const exo_trie *t, const uint8_t *s, size_t n, size_t *len) {
    int32_t longest = EXO_NO_TOKEN;
    uint32_t node = n > 0 ? t->first[s[0]] : 0;
    *len = 0;
    for (size_t depth = 1; node != 0; depth++) {
        if (t->nodes[node].id != EXO_NO_TOKEN) {
            longest = t->nodes[node].id;
            *len = depth;
        }
        node = depth < n ? exo_trie_next(t, node, s[depth]) : 0;
    }
    return longest;
}
