/* request.h - what one answer is: prompt ids, limits, sampling.  The request descriptor.
 *
 * Every stage of an instance receives the same descriptor at admission, so that whoever holds
 * the head can sample, and a resumed request draws the same numbers on any node.
 * Thread: ANY, one at a time. */
#ifndef EXO_ENGINE_REQUEST_H
#define EXO_ENGINE_REQUEST_H

#include <exo/base.h>

#include <jansson.h>

#define EXO_MAX_LOGPROBS   20
#define EXO_MAX_STOPS      16
#define EXO_MAX_BIAS       1024
#define EXO_MAX_STOP_BYTES 1024

typedef struct {
    int32_t id;
    float bias; /* added to the logit */
} exo_logit_bias;

/* All-zero is greedy decoding without penalties: 0 means "off" for every field. */
typedef struct {
    float temperature; /* 0 = greedy */
    uint32_t top_k;
    float top_p, min_p, typical_p;
    float repeat_penalty;   /* llama.cpp's: divides positive logits, multiplies negative; 1 = off */
    uint32_t repeat_last_n; /* window of the three penalties; 0 = the whole history */
    float presence_penalty, frequency_penalty; /* OpenAI's, over generated tokens only */
    uint64_t seed;                             /* never 0 after admission */
    uint32_t choice;                           /* index among n choices */
    uint32_t n_logprobs;                       /* alternatives wanted, <= EXO_MAX_LOGPROBS */
    bool want_logprobs;                        /* the chosen token's own, even with n_logprobs 0 */
    uint32_t n_bias;
    exo_logit_bias *bias; /* (n_bias), owned by the request */
} exo_sampling;

typedef struct {
    char id[40];     /* "chatcmpl-...": letters, digits, '.', '_', '-' */
    int32_t *prompt; /* (n_prompt), owned */
    size_t n_prompt;
    uint32_t max_tokens; /* 0 = to the end of the context */
    bool ignore_end;     /* go on past end-of-turn tokens (benchmarks) */
    uint32_t format;     /* exo_format of a chat answer; 0 = plain */
    bool hash_logits;    /* SHA-256 over all logits' bits, in position order */
    exo_sampling sampling;
    char *stops[EXO_MAX_STOPS]; /* owned, UTF-8 */
    uint32_t n_stops;
} exo_request;

void exo_request_finish(exo_request *r); /* all-zero memory is allowed */
exo_status exo_request_dup(const exo_request *r, exo_request *out, exo_error *err);

/* EXO_EINVAL naming the member that is out of its range. */
exo_status exo_sampling_check(const exo_sampling *p, exo_error *err);
/* EXO_EINVAL when the prompt or a bias names a token outside [0, n_vocab). */
exo_status exo_request_check_vocab(const exo_request *r, uint32_t n_vocab, exo_error *err);

/* The descriptor as it travels: JSON for everything but the prompt, which is raw i32 beside it:
 * of the prompt the JSON has "n_prompt" only, and from_json leaves prompt NULL with n_prompt set.
 * The seed is a string of digits, since JSON readers disagree beyond 2^53.  Unknown members are
 * ignored, absent ones are 0; wrong types and ranges are EXO_EFORMAT naming the member. */
json_t *exo_request_to_json(const exo_request *r); /* new reference; NULL without memory */
exo_status exo_request_from_json(const json_t *j, exo_request *out, exo_error *err);

#endif
