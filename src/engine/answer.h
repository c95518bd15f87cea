/* answer.h - the ids of one answer become text: detokenising, the parts of the request's format,
 * stop strings, the finish reason.
 *
 * Text that may still become a stop string is held back, so nothing sent is ever taken back.
 * Stop strings are looked for in the content, not in the reasoning.
 * Thread: any one at a time. */
#ifndef EXO_ENGINE_ANSWER_H
#define EXO_ENGINE_ANSWER_H

#include "engine/request.h"
#include "model/tokenizer.h"

typedef enum {
    EXO_GOING_ON,
    EXO_FINISH_STOP,   /* end-of-turn token or stop string */
    EXO_FINISH_LENGTH, /* max_tokens or the context */
} exo_finish;

typedef struct exo_answer exo_answer;

/* Borrows both until destroyed.  The text continues a prompt: a leading space is kept. */
exo_status exo_answer_create(const exo_tokenizer *t, const exo_request *r, exo_answer **out,
                             exo_error *err);
void exo_answer_destroy(exo_answer *a);

/* Feeds one drawn token.  Appends to *text what content may be shown now; ctx_full: no more will
 * come. Text ends before the stop string that is complete first.  Once *finish is not EXO_GOING_ON
 * all text is out and nothing more may be fed.  EXO_ENOMEM is the only failure. */
exo_status exo_answer_push(exo_answer *a, int32_t id, bool ctx_full, exo_buf *text,
                           exo_finish *finish);
/* What is held back when the answer ends from outside (cancel, error). */
void exo_answer_flush(exo_answer *a, exo_buf *text);
/* The reasoning that the last push or flush brought; borrowed until the next. */
exo_str exo_answer_reasoning(const exo_answer *a);
/* The last token fed is no content: reasoning, or the format's structure. */
bool exo_answer_is_aside(const exo_answer *a);
/* Tokens fed so far, the end token among them. */
uint32_t exo_answer_n_tokens(const exo_answer *a);

#endif
