/* format.h - how a model lays out its chat answers: which part is meant for the user, which is
 * reasoning.
 *
 * Known by what the model's own template writes and its vocabulary holds, never by its name.  What
 * an answer's tokens become by it is engine/parts.h's.
 * Thread: ANY; the table is constant. */
#ifndef EXO_MODEL_FORMAT_H
#define EXO_MODEL_FORMAT_H

#include "model/model.h"

/* Numbers that travel in request descriptors: only ever add to the end. */
typedef enum {
    EXO_FORMAT_PLAIN,   /* all of it is content */
    EXO_FORMAT_HARMONY, /* messages with headers: <|channel|>analysis<|message|>...<|end|> */
    EXO_FORMAT_THINK,   /* from here on reasoning comes first, between two marks */
    EXO_FORMAT_THINK_SQUARE,
    EXO_FORMAT_SEED_THINK,
    EXO_FORMAT_START_THINKING,
    EXO_FORMAT_THOUGHT_CHANNEL,
    EXO_N_FORMATS
} exo_format;

/* What stands around reasoning; NULL for plain and harmony. */
typedef struct {
    const char *open, *close;
} exo_format_marks;
const exo_format_marks *exo_format_reasoning(exo_format f);

/* The tokens that structure harmony's messages. */
typedef enum {
    EXO_MARK_START,
    EXO_MARK_CHANNEL,
    EXO_MARK_MESSAGE,
    EXO_MARK_END,
    EXO_N_MARKS
} exo_harmony_mark;
/* Their ids; false unless the vocabulary has all of them as single tokens. */
bool exo_format_harmony_ids(const exo_tokenizer *t, int32_t ids[EXO_N_MARKS]);

/* The format of this model's chat answers; plain where its template says nothing else. */
exo_format exo_chat_format(const exo_model *m);
/* The same for a template's text. */
exo_format exo_format_of_template(exo_str source, const exo_tokenizer *t);

#endif
