/* chat.h - a conversation becomes prompt ids: the model's template, then its tokenizer.
 *
 * A model file without a template gets the plain contents, one message a line, so that base
 * models can be asked through chat interfaces too.
 * Thread: ANY. */
#ifndef EXO_MODEL_CHAT_H
#define EXO_MODEL_CHAT_H

#include "model/template.h"
#include "model/tokenizer.h"

/* vars: an object with at least "messages"; bos_token, eos_token and add_generation_prompt (true)
 * are added where absent.  Appends to *ids; BOS is added once, also when the template writes it.
 * EXO_EINVAL: the template refused the conversation (its own message). */
exo_status exo_chat_tokenize(const exo_model *m, json_t *vars, exo_ids *ids, exo_error *err);

#endif
