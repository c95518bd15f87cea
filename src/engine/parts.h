/* parts.h - an answer's tokens become text of two parts: content, for the user, and reasoning.
 *
 * Text that may still become a mark is held back, so nothing sent is ever taken back and no mark
 * ever shows, however it is cut into tokens.  Where a model breaks its format, its text is kept
 * rather than its structure.
 * Harmony: messages on the channels analysis and commentary are reasoning, all others content; a
 * message to a recipient (a tool call) is content that begins with "to=RECIPIENT ".
 * Other formats: what stands between the two marks at the answer's beginning is reasoning, without
 * the white space around it.
 * Thread: any one at a time. */
#ifndef EXO_ENGINE_PARTS_H
#define EXO_ENGINE_PARTS_H

#include "model/format.h"
#include "model/tokenizer.h"

#define EXO_PARTS_MARK_IDS 8

typedef enum { EXO_PART_CONTENT, EXO_PART_REASONING } exo_part;

typedef struct {
    exo_format format;
    exo_detokenizer detokenizer;
    int32_t marks[EXO_PARTS_MARK_IDS]; /* harmony's by name; else control tokens of the marks */
    uint32_t n_marks;
    int phase;         /* parts.c's */
    exo_part part;     /* of text that comes now */
    bool skip_space;   /* white space that comes next is the format's */
    bool marked;       /* harmony: a mark has begun this header */
    bool fresh;        /* harmony: no text of this message is out */
    bool has_text[2];  /* harmony: by part */
    size_t channel_at; /* harmony: where in held the channel's name begins */
    bool failed;       /* memory ran out once */
    exo_buf fed;       /* detokenised, not looked at */
    exo_buf held;      /* may become a mark, or is a header */
} exo_parts;

/* The prompt says how the answer begins: templates may open the reasoning, or close it. */
exo_status exo_parts_init(exo_parts *p, const exo_tokenizer *t, exo_format f, exo_tokens prompt,
                          exo_error *err);
void exo_parts_finish(exo_parts *p); /* all-zero memory is allowed */

/* Appends what one token brings.  True: the token is content, false: reasoning or structure. */
bool exo_parts_push(exo_parts *p, int32_t id, exo_buf *content, exo_buf *reasoning);
/* Appends what is held back, at the answer's end. */
void exo_parts_end(exo_parts *p, exo_buf *content, exo_buf *reasoning);
/* False: memory ran out, and text is missing. */
bool exo_parts_ok(const exo_parts *p);

#endif
