/* openai.h - POST /v1/chat/completions and /v1/completions, GET /v1/models.
 *
 *   openai_request.c   a body becomes an exo_request: every member checked and named
 *   openai_reply.c     an answer's events become a reply or a stream
 *   openai.c           the handlers that join the two
 * Thread: handlers on HTTP threads; events come on node threads. */
#ifndef EXO_API_OPENAI_H
#define EXO_API_OPENAI_H

#include "api/call.h"
#include "api/fields.h"
#include "engine/request.h"

void exo_openai_chat(exo_call *c);
void exo_openai_completions(exo_call *c);
void exo_openai_models(exo_call *c);
void exo_openai_model(exo_call *c, const char *id);

/* ---- between the files ---- */

/* What was asked for, besides the request itself. */
typedef struct {
    bool chat; /* chat.completion or text_completion */
    bool stream, include_usage;
    bool logprobs;
    bool logits_hash; /* exo's own member: proof of equal computation */
    bool echo;        /* not supported; refused */
    char model_id[128];
} exo_openai_wish;

/* Reads members shared by both routes, then the prompt through the model's template or as it is.
 * request is finished by the caller in any case.  f tells what was wrong. */
void exo_openai_parse(exo_fields *f, exo_node *n, exo_openai_wish *wish, exo_request *request,
                      exo_model **model);

/* Collects an answer; the ud of its node events.  Frees itself with the last event. */
typedef struct exo_openai_answer exo_openai_answer;
exo_openai_answer *exo_openai_answer_create(exo_call *c, const exo_openai_wish *wish,
                                            const exo_request *r, exo_model *m);
void exo_openai_answer_destroy(exo_openai_answer *a); /* only when nothing was submitted */
void exo_openai_on_event(void *answer, const exo_node_event *e);

#endif
