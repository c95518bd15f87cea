/* parts.c - see parts.h.
 *
 * Harmony's marks are tokens and known by their ids: text that spells one is text.  The marks of
 * other formats are text, whatever it is cut into; where a control token spells a part of one, its
 * name is fed as text as long as a mark is expected. */
#include "engine/parts.h"

#include <string.h>

#define MAX_HEADER_BYTES 256 /* a longer one is no header */
#define MAX_SPACE_BYTES  256 /* white space held back before a closing mark */
#define ROOM_BYTES       1024
#define PROMPT_TAIL      24 /* tokens: an open mark and the white space behind it */

enum { PHASE_BEGIN, PHASE_HEADER, PHASE_BODY };

/* Where text goes. */
typedef struct {
    exo_buf *to[2]; /* by part */
} sink;

static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

/* Clearing forgets a failure; the parser must not. */
static void clear(exo_parts *p, exo_buf *b) {
    p->failed = p->failed || !exo_buf_ok(b);
    exo_buf_clear(b);
}

static void drop_space(exo_buf *b) {
    size_t n = 0;
    while (n < b->n && is_space(b->data[n])) n++;
    exo_buf_drop_front(b, n);
}

/* ---- marks around reasoning ---- */

/* How many bytes s and text have in common at their beginnings. */
static size_t common(const char *s, size_t n, const char *text) {
    size_t i = 0;
    while (i < n && text[i] != '\0' && s[i] == text[i]) i++;
    return i;
}

/* Nothing but white space so far: reasoning may be opened.  True: more can be said now. */
static bool begin(exo_parts *p, const sink *to) {
    const char *open = exo_format_reasoning(p->format)->open;
    size_t space = 0, n = p->held.n, matched;
    while (space < n && is_space(p->held.data[space])) space++;
    if (space == n) return false;
    matched = common(p->held.data + space, n - space, open);
    if (open[matched] == '\0') {
        exo_buf_drop_front(&p->held, space + matched);
        p->part = EXO_PART_REASONING;
        p->skip_space = true;
    } else if (space + matched == n) {
        return false;
    } else {
        exo_buf_append(to->to[EXO_PART_CONTENT], p->held.data, n);
        clear(p, &p->held);
        p->part = EXO_PART_CONTENT;
    }
    p->phase = PHASE_BODY;
    return true;
}

/* Where the closing mark begins, or what may become one, or the white space before it. */
static size_t find_close(const exo_parts *p, const char *close, bool *whole) {
    const exo_buf *b = &p->held;
    size_t at = 0;
    for (; at < b->n; at++) {
        size_t matched = common(b->data + at, b->n - at, close);
        *whole = close[matched] == '\0';
        if (*whole || at + matched == b->n) break;
    }
    for (size_t n = 0; at > 0 && is_space(b->data[at - 1]) && (*whole || n < MAX_SPACE_BYTES); n++)
        at--;
    return at;
}

static bool reason(exo_parts *p, const sink *to) {
    const char *close = exo_format_reasoning(p->format)->close;
    bool whole = false;
    if (p->skip_space) drop_space(&p->held);
    if (p->held.n == 0) return false;
    size_t at = find_close(p, close, &whole);
    if (at > 0) p->skip_space = false;
    exo_buf_append(to->to[EXO_PART_REASONING], p->held.data, at);
    exo_buf_drop_front(&p->held, at);
    if (!whole) return false;
    drop_space(&p->held);
    exo_buf_drop_front(&p->held, strlen(close));
    p->part = EXO_PART_CONTENT;
    p->skip_space = true;
    return true;
}

/* What is fed goes as far as it can. */
static void take_marked(exo_parts *p, const sink *to) {
    bool more = true;
    exo_buf_append(&p->held, exo_buf_str(&p->fed), p->fed.n);
    clear(p, &p->fed);
    while (more && p->held.n > 0 && exo_buf_ok(&p->held)) {
        if (p->phase == PHASE_BEGIN) {
            more = begin(p, to);
        } else if (p->part == EXO_PART_REASONING) {
            more = reason(p, to);
        } else {
            if (p->skip_space) drop_space(&p->held);
            if (p->held.n > 0) p->skip_space = false;
            exo_buf_append(to->to[EXO_PART_CONTENT], exo_buf_str(&p->held), p->held.n);
            clear(p, &p->held);
        }
    }
}

/* ---- harmony ---- */

static void say(exo_parts *p, const char *s, size_t n, const sink *to) {
    if (n == 0) return;
    if (p->fresh && p->has_text[p->part]) exo_buf_puts(to->to[p->part], "\n\n");
    p->fresh = false;
    p->has_text[p->part] = true;
    exo_buf_append(to->to[p->part], s, n);
}

static void begin_message(exo_parts *p, exo_part part) {
    p->phase = PHASE_BODY;
    p->part = part;
    p->fresh = true;
    p->marked = false;
}

static void begin_header(exo_parts *p, bool marked) {
    clear(p, &p->held);
    p->phase = PHASE_HEADER;
    p->marked = marked;
    p->channel_at = 0;
}

/* A header that is none: the model forgot its form. */
static void header_is_text(exo_parts *p, const sink *to) {
    size_t at = p->channel_at;
    begin_message(p, EXO_PART_CONTENT);
    say(p, exo_buf_str(&p->held) + at, p->held.n - at, to);
    clear(p, &p->held);
}

/* A header ends here that never came to its message.  Behind a mark it was one, cut off. */
static void abandon_header(exo_parts *p, const sink *to) {
    size_t space = 0;
    while (space < p->held.n && is_space(p->held.data[space])) space++;
    if (p->phase != PHASE_BODY && !p->marked && space < p->held.n) header_is_text(p, to);
}

static size_t word_bytes(const char *s, size_t n) {
    size_t i = 0;
    while (i < n && !is_space(s[i])) i++;
    return i;
}

static bool word_is(const char *s, size_t n, const char *word) {
    return n == strlen(word) && memcmp(s, word, n) == 0;
}

/* The header is whole: its channel, and whom it is for. */
static void end_header(exo_parts *p, const sink *to) {
    const char *s = exo_buf_str(&p->held), *channel = s + p->channel_at, *recipient = NULL;
    size_t n = p->held.n, n_recipient = 0;
    for (size_t i = 0; i < n; i += word_bytes(s + i, n - i) + 1) {
        if (n - i < 4 || memcmp(s + i, "to=", 3) != 0) continue;
        recipient = s + i;
        n_recipient = word_bytes(s + i, n - i);
    }
    size_t n_channel = p->channel_at > 0 ? word_bytes(channel, n - p->channel_at) : 0;
    bool aside =
        word_is(channel, n_channel, "analysis") || word_is(channel, n_channel, "commentary");
    begin_message(p, aside && recipient == NULL ? EXO_PART_REASONING : EXO_PART_CONTENT);
    if (recipient != NULL) {
        say(p, recipient, n_recipient, to);
        say(p, " ", 1, to);
    }
    clear(p, &p->held);
}

static void take_harmony(exo_parts *p, const sink *to) {
    if (p->phase == PHASE_BODY) {
        say(p, exo_buf_str(&p->fed), p->fed.n, to);
    } else {
        exo_buf_append(&p->held, exo_buf_str(&p->fed), p->fed.n);
        if (p->held.n > MAX_HEADER_BYTES) header_is_text(p, to);
    }
    clear(p, &p->fed);
}

static void take_mark(exo_parts *p, uint32_t mark, const sink *to) {
    bool in_header = p->phase != PHASE_BODY;
    switch ((exo_harmony_mark)mark) {
    case EXO_MARK_START:
    case EXO_MARK_END:
        abandon_header(p, to);
        begin_header(p, mark == EXO_MARK_START);
        break;
    case EXO_MARK_CHANNEL:
        if (!in_header) begin_header(p, true);
        p->marked = true;
        exo_buf_putc(&p->held, '\n');
        p->channel_at = p->held.n;
        break;
    case EXO_MARK_MESSAGE:
        if (in_header) end_header(p, to);
        break;
    case EXO_N_MARKS: break;
    }
}

/* ---- both ---- */

static void take(exo_parts *p, const sink *to) {
    if (p->format == EXO_FORMAT_HARMONY) {
        take_harmony(p, to);
    } else if (p->format == EXO_FORMAT_PLAIN) {
        exo_buf_append(to->to[EXO_PART_CONTENT], exo_buf_str(&p->fed), p->fed.n);
        clear(p, &p->fed);
    } else {
        take_marked(p, to);
    }
}

static uint32_t find_mark(const exo_parts *p, int32_t id) {
    uint32_t i = 0;
    while (i < p->n_marks && p->marks[i] != id) i++;
    return i;
}

static void feed(exo_parts *p, int32_t id, const sink *to) {
    uint32_t mark = find_mark(p, id);
    if (mark == p->n_marks) {
        exo_detokenize(&p->detokenizer, id, &p->fed);
        take(p, to);
        return;
    }
    exo_detokenize_end(&p->detokenizer, &p->fed);
    if (p->format != EXO_FORMAT_HARMONY) {
        exo_str piece = exo_tokenizer_piece(p->detokenizer.t, id);
        bool expected = p->phase == PHASE_BEGIN || p->part == EXO_PART_REASONING;
        if (expected) exo_buf_append(&p->fed, piece.s, piece.n);
        take(p, to);
        return;
    }
    take(p, to);
    take_mark(p, mark, to);
}

static bool in_content(const exo_parts *p) {
    if (p->format == EXO_FORMAT_PLAIN) return true;
    return p->phase == PHASE_BODY && p->part == EXO_PART_CONTENT;
}

bool exo_parts_push(exo_parts *p, int32_t id, exo_buf *content, exo_buf *reasoning) {
    bool before = in_content(p), mark = find_mark(p, id) < p->n_marks;
    size_t n = content->n;
    feed(p, id, &(sink){{content, reasoning}});
    return !mark && in_content(p) && (before || content->n > n);
}

void exo_parts_end(exo_parts *p, exo_buf *content, exo_buf *reasoning) {
    const sink to = {{content, reasoning}};
    exo_detokenize_end(&p->detokenizer, &p->fed);
    take(p, &to);
    if (p->format == EXO_FORMAT_HARMONY) {
        abandon_header(p, &to);
    } else if (p->part == EXO_PART_REASONING) {
        while (p->held.n > 0 && is_space(p->held.data[p->held.n - 1])) p->held.n--;
        exo_buf_append(reasoning, exo_buf_str(&p->held), p->held.n);
    } else {
        exo_buf_append(content, exo_buf_str(&p->held), p->held.n);
    }
    clear(p, &p->held);
}

bool exo_parts_ok(const exo_parts *p) {
    return !p->failed && exo_buf_ok(&p->fed) && exo_buf_ok(&p->held);
}

/* ---- the beginning ---- */

/* Control tokens that a mark consists of: detokenised they would be nothing. */
static void find_control_tokens(exo_parts *p, const exo_tokenizer *t, const char *mark) {
    exo_ids ids = {0};
    exo_buf shown = {0};
    exo_status st = exo_tokenize(t, mark, strlen(mark), EXO_TOKENIZE_SPECIAL, &ids, NULL);
    for (size_t i = 0; st == EXO_OK && i < ids.n && p->n_marks < EXO_PARTS_MARK_IDS; i++) {
        exo_detokenizer d;
        exo_detokenizer_init_continue(&d, t);
        exo_buf_clear(&shown);
        exo_detokenize(&d, ids.ids[i], &shown);
        exo_detokenize_end(&d, &shown);
        if (shown.n == 0) p->marks[p->n_marks++] = ids.ids[i];
    }
    exo_buf_finish(&shown);
    exo_ids_finish(&ids);
}

/* Everything since the last message's start goes through the parser. */
static void read_messages(exo_parts *p, exo_tokens prompt, const sink *nowhere) {
    size_t at = prompt.n;
    while (at > 0 && prompt.ids[at - 1] != p->marks[EXO_MARK_START]) at--;
    if (at == 0) return;
    for (at--; at < prompt.n; at++) feed(p, prompt.ids[at], nowhere);
    p->marked = p->marked && p->channel_at > 0; /* "<|start|>assistant" asks for a header */
    if (p->phase != PHASE_BODY && !p->marked) clear(p, &p->held);
    p->has_text[0] = p->has_text[1] = false;
}

/* Is an open mark the last thing of the prompt? */
static void read_tail(exo_parts *p, exo_tokens prompt) {
    const char *open = exo_format_reasoning(p->format)->open;
    exo_detokenizer d;
    exo_buf tail = {0};
    exo_detokenizer_init_continue(&d, p->detokenizer.t);
    for (size_t i = prompt.n > PROMPT_TAIL ? prompt.n - PROMPT_TAIL : 0; i < prompt.n; i++) {
        exo_str piece = exo_tokenizer_piece(d.t, prompt.ids[i]);
        if (find_mark(p, prompt.ids[i]) < p->n_marks) {
            exo_buf_append(&tail, piece.s, piece.n);
        } else {
            exo_detokenize(&d, prompt.ids[i], &tail);
        }
    }
    size_t n = tail.n, n_open = strlen(open);
    while (n > 0 && is_space(tail.data[n - 1])) n--;
    while (n_open > 0 && is_space(open[n_open - 1])) n_open--;
    if (n >= n_open && memcmp(tail.data + n - n_open, open, n_open) == 0) {
        p->phase = PHASE_BODY;
        p->part = EXO_PART_REASONING;
        p->skip_space = true;
    }
    exo_buf_finish(&tail);
}

exo_status exo_parts_init(exo_parts *p, const exo_tokenizer *t, exo_format f, exo_tokens prompt,
                          exo_error *err) {
    exo_buf scrap = {0};
    *p = (exo_parts){.format = f, .phase = PHASE_BEGIN};
    exo_detokenizer_init_continue(&p->detokenizer, t);
    if (prompt.ids == NULL) prompt.n = 0;
    if (f == EXO_FORMAT_HARMONY && exo_format_harmony_ids(t, p->marks)) {
        p->n_marks = EXO_N_MARKS;
        read_messages(p, prompt, &(sink){{&scrap, &scrap}});
    } else if (exo_format_reasoning(f) != NULL) {
        find_control_tokens(p, t, exo_format_reasoning(f)->open);
        find_control_tokens(p, t, exo_format_reasoning(f)->close);
        read_tail(p, prompt);
    } else {
        p->format = EXO_FORMAT_PLAIN;
    }
    bool ok = exo_parts_ok(p) && exo_buf_ok(&scrap) && exo_buf_reserve(&p->fed, ROOM_BYTES) &&
              exo_buf_reserve(&p->held, ROOM_BYTES);
    exo_buf_finish(&scrap);
    if (ok) return EXO_OK;
    exo_parts_finish(p);
    return exo_error_set(err, EXO_ENOMEM, "no memory for an answer");
}

void exo_parts_finish(exo_parts *p) {
    exo_buf_finish(&p->fed);
    exo_buf_finish(&p->held);
}
