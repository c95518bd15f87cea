/* tokenizer_trie.c - finds which tokens a text begins with, byte by byte.
 *
 * Owns the tree: a node per distinct beginning of some token, its children side by side in the
 * order of their bytes.  Built once from the sorted texts, level by level, which is what keeps
 * children together; read-only afterwards.  Serves special tokens, WordPiece and Unigram. */
#include "model/tokenizer_impl.h"

#include "base/mem.h"

#include <string.h>

/* ---- keys ---- */

exo_trie_key *exo_trie_keys(const exo_vocab *v, bool (*takes)(const exo_token *t), size_t *n) {
    size_t k = 0;
    for (uint32_t id = 0; id < v->n; id++) k += v->tokens[id].n_text > 0 && takes(&v->tokens[id]);
    exo_trie_key *keys = exo_malloc((k + 1) * sizeof *keys);
    *n = keys != NULL ? k : 0;
    k = 0;
    for (uint32_t id = 0; k < *n; id++) {
        const exo_token *t = &v->tokens[id];
        if (t->n_text > 0 && takes(t))
            keys[k++] = (exo_trie_key){v->blob + t->text, t->n_text, (int32_t)id, id};
    }
    return keys;
}

/* Sorting by text, a shorter text first; then in their order. */
static int compare(const exo_trie_key *x, const exo_trie_key *y) {
    int order = memcmp(x->s, y->s, x->n < y->n ? x->n : y->n);
    if (order == 0) order = (x->n > y->n) - (x->n < y->n);
    return order != 0 ? order : (x->order > y->order) - (x->order < y->order);
}

static void sift_down(exo_trie_key *keys, size_t root, size_t n) {
    for (size_t child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && compare(&keys[child], &keys[child + 1]) < 0) child++;
        if (compare(&keys[root], &keys[child]) >= 0) return;
        exo_trie_key key = keys[root];
        keys[root] = keys[child];
        keys[child] = key;
    }
}

static void sort(exo_trie_key *keys, size_t n) {
    for (size_t i = n / 2; i-- > 0;) sift_down(keys, i, n);
    for (size_t end = n; end-- > 1;) {
        exo_trie_key key = keys[0];
        keys[0] = keys[end];
        keys[end] = key;
        sift_down(keys, 0, end);
    }
}

/* ---- growing ---- */

typedef struct {
    uint32_t lo, hi; /* the sorted keys below a node */
    uint32_t depth;  /* bytes they have in common */
} span;

typedef struct {
    exo_trie *trie;
    const exo_trie_key *keys; /* sorted */
    span *spans;              /* (trie->n) */
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

static uint8_t byte_at(const grower *g, uint32_t k, uint32_t depth) { return g->keys[k].s[depth]; }

static bool add_children(grower *g, uint32_t node) {
    exo_trie *t = g->trie;
    span s = g->spans[node];
    if (s.lo < s.hi && g->keys[s.lo].n == s.depth && s.depth > 0)
        t->nodes[node].id = g->keys[s.lo++].id;
    while (s.lo < s.hi && g->keys[s.lo].n == s.depth) s.lo++; /* the same again */
    t->nodes[node].first_child = t->n;
    for (uint32_t lo = s.lo, hi; lo < s.hi; lo = hi) {
        uint8_t byte = byte_at(g, lo, s.depth);
        for (hi = lo + 1; hi < s.hi && byte_at(g, hi, s.depth) == byte;) hi++;
        if (!add_node(g, byte, (span){lo, hi, s.depth + 1})) return false;
        t->nodes[node].n_children++;
    }
    return true;
}

static exo_status check_keys(const exo_trie_key *keys, size_t n, const char *what, exo_error *err) {
    for (size_t k = 0; k < n; k++) {
        if (keys[k].n > EXO_TRIE_MAX_BYTES)
            return exo_error_set(
                err, EXO_EFORMAT, "tokenizer.ggml.tokens[%d] is a %s of more than %d bytes",
                keys[k].id, what != NULL ? what : "special token", EXO_TRIE_MAX_BYTES);
        if (what != NULL && k > 0 && keys[k - 1].n == keys[k].n &&
            memcmp(keys[k - 1].s, keys[k].s, keys[k].n) == 0)
            return exo_error_set(err, EXO_EFORMAT,
                                 "tokenizer.ggml.tokens[%d] and [%d] are the same %s: \"%.*s\"",
                                 keys[k - 1].id, keys[k].id, what,
                                 keys[k].n < 40 ? (int)keys[k].n : 40, (const char *)keys[k].s);
    }
    return EXO_OK;
}

exo_status exo_trie_init(exo_trie *t, exo_trie_key *keys, size_t n, const char *what,
                         exo_error *err) {
    *t = (exo_trie){0};
    sort(keys, n);
    exo_status status = check_keys(keys, n, what, err);
    if (status != EXO_OK) return status;
    grower g = {.trie = t, .keys = keys};
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
    *len = 0;
    if (n == 0 || t->first[s[0]] == 0) return EXO_NO_TOKEN;
    int32_t id = t->nodes[t->first[s[0]]].id, longer;
    longer = exo_trie_longest_below(t, t->first[s[0]], s + 1, n - 1, len);
    if (longer == EXO_NO_TOKEN && id == EXO_NO_TOKEN) return EXO_NO_TOKEN;
    ++*len;
    return longer != EXO_NO_TOKEN ? longer : id;
}

int32_t exo_trie_longest_below(const exo_trie *t, uint32_t node, const uint8_t *s, size_t n,
                               size_t *len) {
    int32_t longest = EXO_NO_TOKEN;
    *len = 0;
    node = n > 0 ? exo_trie_next(t, node, s[0]) : 0;
    for (size_t depth = 1; node != 0; depth++) {
        if (t->nodes[node].id != EXO_NO_TOKEN) {
            longest = t->nodes[node].id;
            *len = depth;
        }
        node = depth < n ? exo_trie_next(t, node, s[depth]) : 0;
    }
    return longest;
}
