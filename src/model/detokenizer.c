/* detokenizer.c - ids back to text, as they come.
 *
 * Owns the bytes of a UTF-8 sequence that is not whole yet.  A token may end in the middle of a
 * character (byte tokens do); what it adds is held back until the rest has come, or until
 * it is clear that it never will: then U+FFFD stands for each broken run. */
#include "model/tokenizer_impl.h"

#include "model/utf8.h"

#include <string.h>

static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */

void exo_detokenizer_init(exo_detokenizer *d, const exo_tokenizer *t) {
    const exo_vocab *v = &t->vocab;
    bool spaced = v->add_space_prefix || v->remove_extra_spaces || v->kind == EXO_VOCAB_WPM;
    *d = (exo_detokenizer){.t = t, .started = !spaced};
}

void exo_detokenizer_init_continue(exo_detokenizer *d, const exo_tokenizer *t) {
    *d = (exo_detokenizer){.t = t, .started = true};
}

/* One byte more of a sequence that d->held begins. */
static void complete(exo_detokenizer *d, uint8_t byte, exo_buf *out) {
    size_t len;
    d->held[d->n_held++] = byte;
    while (d->n_held > 0) {
        exo_utf8_kind kind = exo_utf8_step(d->held, d->n_held, &len);
        if (kind == EXO_UTF8_CUT) return;
        if (kind == EXO_UTF8_WHOLE) {
            exo_buf_append(out, d->held, len);
        } else {
            exo_buf_append(out, replacement, 3);
        }
        d->n_held -= (uint32_t)len;
        memmove(d->held, d->held + len, d->n_held);
    }
}

void exo_detokenize(exo_detokenizer *d, int32_t id, exo_buf *out) {
    const exo_vocab *v = &d->t->vocab;
    if (id < 0 || (uint32_t)id >= v->n || !v->tokens[id].shown) return;
    const uint8_t *s = v->blob + v->tokens[id].bytes;
    size_t n = v->tokens[id].n_bytes;
    if (n > 0 && !d->started) {
        d->started = true;
        if (s[0] == ' ') {
            s++;
            n--;
        }
    }
    while (n > 0) {
        size_t valid = d->n_held == 0 ? exo_utf8_valid(s, n) : 0;
        exo_buf_append(out, s, valid);
        s += valid;
        n -= valid;
        if (n == 0) break;
        complete(d, *s, out);
        s++;
        n--;
    }
}

void exo_detokenize_end(exo_detokenizer *d, exo_buf *out) {
    if (d->n_held > 0) exo_buf_append(out, replacement, 3); /* one sequence, cut */
    d->n_held = 0;
}
