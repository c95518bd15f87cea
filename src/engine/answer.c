/* answer.c - stop strings found byte by byte in the text as it grows.
 *
 * Owns the text that is not shown yet.  Each stop string is followed by the matcher of Knuth,
 * Morris and Pratt (1977), whose state is the length of the longest beginning of the stop string
 * that the text ends with: the longest of them all is what must be held back.  The first stop
 * string to be complete ends the answer, whatever the tokens were cut like; of those complete at
 * the same byte the longest counts.  Knows nothing of steps and sampling. */
#include "engine/answer.h"

#include "base/mem.h"
#include "engine/parts.h"

#include <string.h>

#define TOKEN_ROOM_BYTES 1024 /* held-back text rarely grows beyond the stop strings plus this */

typedef struct {
    const char *text; /* the request's */
    uint32_t n;
    uint32_t matched; /* the text so far ends with text[0, matched) */
    uint16_t *border; /* (n) longest proper suffix of text[0, i] that also begins it */
} stop_matcher;

struct exo_answer {
    const exo_tokenizer *tokenizer;
    const exo_request *request;
    exo_parts parts;
    exo_buf unseen;    /* content that the matchers have not looked at */
    exo_buf held;      /* bytes that may yet turn out to belong to a stop string */
    exo_buf reasoning; /* of the last token */
    bool is_aside;
    uint32_t n_tokens;
    uint32_t n_stops;
    stop_matcher stops[EXO_MAX_STOPS];
};

static uint32_t advance(const stop_matcher *m, uint32_t matched, char c) {
    while (matched > 0 && (matched == m->n || m->text[matched] != c))
        matched = m->border[matched - 1];
    return m->text[matched] == c ? matched + 1 : 0;
}

static bool matcher_init(stop_matcher *m, const char *text) {
    *m = (stop_matcher){.text = text, .n = (uint32_t)strlen(text)};
    m->border = exo_calloc(m->n, sizeof *m->border);
    if (m->border == NULL) return false;
    for (uint32_t i = 1; i < m->n; i++)
        m->border[i] = (uint16_t)advance(m, m->border[i - 1], text[i]);
    return true;
}

exo_status exo_answer_create(const exo_tokenizer *t, const exo_request *r, exo_answer **out,
                             exo_error *err) {
    *out = NULL;
    exo_answer *a = exo_calloc(1, sizeof *a);
    if (a == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for an answer");
    a->tokenizer = t;
    a->request = r;
    exo_tokens prompt = {r->prompt, r->n_prompt};
    exo_status st = exo_parts_init(&a->parts, t, (exo_format)r->format, prompt, err);
    if (st != EXO_OK) {
        exo_answer_destroy(a);
        return st;
    }
    size_t longest = 0;
    bool ok = true;
    for (uint32_t i = 0; ok && i < r->n_stops; i++) {
        size_t n = strlen(r->stops[i]);
        if (n == 0 || n > EXO_MAX_STOP_BYTES) {
            exo_answer_destroy(a);
            return exo_error_set(err, EXO_EINVAL, "a stop string of %zu bytes: 1 to %d are taken",
                                 n, EXO_MAX_STOP_BYTES);
        }
        if (n > longest) longest = n;
        ok = matcher_init(&a->stops[a->n_stops], r->stops[i]);
        if (ok) a->n_stops++;
    }
    ok = ok && exo_buf_reserve(&a->held, longest + TOKEN_ROOM_BYTES) &&
         exo_buf_reserve(&a->unseen, TOKEN_ROOM_BYTES) &&
         exo_buf_reserve(&a->reasoning, TOKEN_ROOM_BYTES);
    if (!ok) {
        exo_answer_destroy(a);
        return exo_error_set(err, EXO_ENOMEM, "no memory for an answer");
    }
    *out = a;
    return EXO_OK;
}

void exo_answer_destroy(exo_answer *a) {
    if (a == NULL) return;
    for (uint32_t i = 0; i < a->n_stops; i++) exo_free(a->stops[i].border);
    exo_parts_finish(&a->parts);
    exo_buf_finish(&a->unseen);
    exo_buf_finish(&a->held);
    exo_buf_finish(&a->reasoning);
    exo_free(a);
}

/* Moves all but the last n_kept held bytes to text. */
static void show(exo_answer *a, size_t n_kept, exo_buf *text) {
    size_t n = a->held.n - n_kept;
    exo_buf_append(text, exo_buf_str(&a->held), n);
    exo_buf_drop_front(&a->held, n);
}

/* One byte for every matcher.  Returns the length of the longest stop string now complete, or 0;
 * *n_possible is the longest beginning of one that the text ends with. */
static uint32_t match_byte(exo_answer *a, char c, uint32_t *n_possible) {
    uint32_t complete = 0;
    *n_possible = 0;
    for (uint32_t i = 0; i < a->n_stops; i++) {
        stop_matcher *m = &a->stops[i];
        m->matched = advance(m, m->matched, c);
        if (m->matched > *n_possible) *n_possible = m->matched;
        if (m->matched == m->n && m->n > complete) complete = m->n;
    }
    return complete;
}

/* Shows what the unseen bytes allow.  True: a stop string is complete; what follows it is gone.
 * A buffer that failed is left so, for the caller to see. */
static bool take_unseen(exo_answer *a, exo_buf *text) {
    if (!exo_buf_ok(&a->unseen) || !exo_buf_ok(&a->held)) return false;
    uint32_t n_possible = (uint32_t)a->held.n;
    for (size_t i = 0; i < a->unseen.n; i++) {
        exo_buf_putc(&a->held, a->unseen.data[i]);
        if (!exo_buf_ok(&a->held)) return false;
        uint32_t complete = match_byte(a, a->unseen.data[i], &n_possible);
        if (complete == 0) continue;
        show(a, complete, text);
        exo_buf_clear(&a->held);
        exo_buf_clear(&a->unseen);
        return true;
    }
    exo_buf_clear(&a->unseen);
    show(a, n_possible, text);
    return false;
}

/* Everything that is left; a stop string may still come out of it.  True: it did. */
static bool take_rest(exo_answer *a, exo_buf *text) {
    exo_parts_end(&a->parts, &a->unseen, &a->reasoning);
    bool stopped = take_unseen(a, text);
    show(a, 0, text);
    return stopped;
}

exo_status exo_answer_push(exo_answer *a, int32_t id, bool ctx_full, exo_buf *text,
                           exo_finish *finish) {
    const exo_request *r = a->request;
    *finish = EXO_GOING_ON;
    a->n_tokens++;
    a->is_aside = r->format != EXO_FORMAT_PLAIN; /* so is the end token of a format */
    exo_buf_clear(&a->reasoning);
    bool is_end = !r->ignore_end && exo_tokenizer_is_end(a->tokenizer, id);
    bool is_last = ctx_full || (r->max_tokens > 0 && a->n_tokens >= r->max_tokens);
    bool stopped = false;
    if (!is_end) {
        a->is_aside = !exo_parts_push(&a->parts, id, &a->unseen, &a->reasoning);
        stopped = take_unseen(a, text);
    }
    if (!stopped && (is_end || is_last)) stopped = take_rest(a, text);
    if (!exo_buf_ok(&a->unseen) || !exo_buf_ok(&a->held) || !exo_buf_ok(text) ||
        !exo_buf_ok(&a->reasoning) || !exo_parts_ok(&a->parts)) {
        return EXO_ENOMEM;
    }
    if (stopped || is_end)
        *finish = EXO_FINISH_STOP;
    else if (is_last)
        *finish = EXO_FINISH_LENGTH;
    return EXO_OK;
}

void exo_answer_flush(exo_answer *a, exo_buf *text) {
    exo_buf_clear(&a->reasoning);
    take_rest(a, text);
}

exo_str exo_answer_reasoning(const exo_answer *a) {
    return (exo_str){exo_buf_str(&a->reasoning), a->reasoning.n};
}

bool exo_answer_is_aside(const exo_answer *a) { return a->is_aside; }

uint32_t exo_answer_n_tokens(const exo_answer *a) { return a->n_tokens; }
