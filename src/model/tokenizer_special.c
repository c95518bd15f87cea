/* tokenizer_special.c - finds tokens that text may spell out: <|im_end|>, [INST] and the like.
 *
 * Leftmost, and of those the longest.  A position is looked up only if its byte begins some
 * special token; then each further byte halves a sorted range, so that 300 tokens with the
 * same "<|reserved_special_" cost no more than one. */
#include "model/tokenizer_impl.h"

#include "base/mem.h"

#include <string.h>

static bool is_special(const exo_token *t) {
    bool kind = t->type == EXO_TOKEN_CONTROL || t->type == EXO_TOKEN_USER_DEFINED ||
                t->type == EXO_TOKEN_UNKNOWN;
    return kind && t->n_text > 0;
}

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

exo_status exo_special_init(exo_special_index *x, const exo_vocab *v, exo_error *err) {
    *x = (exo_special_index){0};
    for (uint32_t id = 0; id < v->n; id++) x->n += is_special(&v->tokens[id]);
    x->ids = exo_malloc(x->n * sizeof *x->ids);
    if (x->ids == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for the vocabulary");
    for (uint32_t id = 0, k = 0; id < v->n; id++) {
        if (is_special(&v->tokens[id])) x->ids[k++] = (int32_t)id;
    }
    sort(v, x->ids, x->n);
    for (uint32_t k = 1; k < x->n; k++) {
        if (compare(v, x->ids[k - 1], x->ids[k]) != 0) continue;
        return exo_error_set(err, EXO_EFORMAT,
                             "tokenizer.ggml.tokens[%d] and [%d] are the same special token",
                             x->ids[k - 1], x->ids[k]);
    }
    for (uint32_t k = 0; k < x->n; k++) x->first[v->blob[v->tokens[x->ids[k]].text] + 1]++;
    for (int b = 0; b < 256; b++) x->first[b + 1] += x->first[b];
    return EXO_OK;
}

void exo_special_finish(exo_special_index *x) {
    exo_free(x->ids);
    *x = (exo_special_index){0};
}

/* The first of ids[lo..hi), sorted at depth, whose byte there is at least b; a text that ends
 * before depth sorts first. */
static uint32_t lower_bound(const exo_special_index *x, const exo_vocab *v, uint32_t lo,
                            uint32_t hi, size_t depth, unsigned b) {
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        const exo_token *t = &v->tokens[x->ids[mid]];
        if (t->n_text <= depth || v->blob[t->text + depth] < b) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

int32_t exo_special_match(const exo_special_index *x, const exo_vocab *v, const uint8_t *s,
                          size_t n, bool control_too) {
    uint32_t lo = x->first[s[0]], hi = x->first[s[0] + 1];
    int32_t longest = EXO_NO_TOKEN;
    for (size_t depth = 1; lo < hi; depth++) { /* all of the range agree with s up to depth */
        const exo_token *t = &v->tokens[x->ids[lo]];
        if (t->n_text == depth && (control_too || t->type == EXO_TOKEN_USER_DEFINED))
            longest = x->ids[lo];
        if (depth == n) break;
        lo = lower_bound(x, v, lo, hi, depth, s[depth]);
        hi = lower_bound(x, v, lo, hi, depth, s[depth] + 1u);
    }
    return longest;
}
