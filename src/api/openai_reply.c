/* openai_reply.c - an answer's events become a reply or a stream; see openai.h. */
#include "api/openai.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "model/tokenizer.h"

#include <exo/version.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define IMPOSSIBLE_LOGPROB (-9999.0) /* OpenAI's stand-in for -inf, which JSON cannot hold */

struct exo_openai_answer {
    exo_call *call;
    exo_openai_wish wish;
    exo_model *model; /* referenced: its pieces name tokens */
    char id[40];
    json_int_t created;
    bool role_sent;
    exo_buf text; /* the whole answer, unless streamed */
    exo_buf reasoning;
    json_t *logprobs; /* array of entries, unless streamed */
    char hash[EXO_SHA256_HEX_BYTES];
    json_t *moves; /* array of changes of the numeric profile in mid-answer; NULL = none */
    uint32_t n_prompt, n_cached, n_answer;
};

exo_openai_answer *exo_openai_answer_create(exo_call *c, const exo_openai_wish *wish,
                                            const exo_request *r, exo_model *m) {
    exo_openai_answer *a = exo_calloc(1, sizeof *a);
    if (a == NULL) return NULL;
    a->call = c;
    a->wish = *wish;
    a->model = exo_model_ref(m);
    a->created = (json_int_t)exo_unix_time();
    a->logprobs = json_array();
    memcpy(a->id, r->id, sizeof a->id);
    return a;
}

void exo_openai_answer_destroy(exo_openai_answer *a) {
    if (a == NULL) return;
    exo_model_unref(a->model);
    exo_buf_finish(&a->text);
    exo_buf_finish(&a->reasoning);
    json_decref(a->logprobs);
    json_decref(a->moves);
    exo_free(a);
}

/* ---- log-probabilities ---- */

/* The token's text alone; bytes that are no UTF-8 by themselves show as U+FFFD. */
static json_t *token_text(const exo_openai_answer *a, int32_t id) {
    exo_detokenizer d;
    exo_buf text = {0};
    exo_detokenizer_init_continue(&d, exo_model_tokenizer(a->model));
    exo_detokenize(&d, id, &text);
    exo_detokenize_end(&d, &text);
    if (text.n == 0) { /* control tokens have a name instead */
        exo_str piece = exo_tokenizer_piece(exo_model_tokenizer(a->model), id);
        exo_buf_append(&text, piece.s, piece.n);
    }
    json_t *j = json_stringn(exo_buf_str(&text), text.n);
    exo_buf_finish(&text);
    return j != NULL ? j : json_string("\xEF\xBF\xBD");
}

static json_t *text_bytes(const json_t *text) {
    json_t *bytes = json_array();
    const char *s = json_string_value(text);
    for (size_t i = 0; i < json_string_length(text); i++) {
        json_array_append_new(bytes, json_integer((unsigned char)s[i]));
    }
    return bytes;
}

static json_t *chat_entry(const exo_openai_answer *a, int32_t id, float logprob) {
    json_t *text = token_text(a, id);
    json_t *bytes = text_bytes(text);
    double p = isfinite(logprob) ? (double)logprob : IMPOSSIBLE_LOGPROB;
    return json_pack("{s:o, s:f, s:o}", "token", text, "logprob", p, "bytes", bytes);
}

static json_t *logprob_entry(const exo_openai_answer *a, const exo_draw *d) {
    json_t *entry = chat_entry(a, d->id, d->logprob), *top = json_array();
    for (uint32_t i = 0; i < d->n_top; i++) {
        json_array_append_new(top, chat_entry(a, d->top[i].id, d->top[i].logprob));
    }
    json_object_set_new(entry, "top_logprobs", top);
    return entry;
}

/* Entries in the shape of the route: chat has a list, completions has parallel arrays. */
static json_t *logprobs_json(const exo_openai_answer *a, json_t *entries) {
    if (!a->wish.logprobs) return json_null();
    if (a->wish.chat) return json_pack("{s:O, s:n}", "content", entries, "refusal");
    json_t *tokens = json_array(), *probs = json_array(), *tops = json_array();
    size_t i, k;
    json_t *entry, *t;
    json_array_foreach(entries, i, entry) {
        json_array_append(tokens, json_object_get(entry, "token"));
        json_array_append(probs, json_object_get(entry, "logprob"));
        json_t *top = json_object();
        json_array_foreach(json_object_get(entry, "top_logprobs"), k, t) {
            json_object_set(top, json_string_value(json_object_get(t, "token")),
                            json_object_get(t, "logprob"));
        }
        json_array_append_new(tops, top);
    }
    return json_pack("{s:o, s:o, s:o}", "tokens", tokens, "token_logprobs", probs, "top_logprobs",
                     tops);
}

/* ---- objects ---- */

static const char *finish_name(exo_finish finish) {
    if (finish == EXO_GOING_ON) return NULL;
    return finish == EXO_FINISH_STOP ? "stop" : "length";
}

static json_t *usage_json(const exo_openai_answer *a) {
    return json_pack("{s:I, s:I, s:I, s:{s:I}}", "prompt_tokens", (json_int_t)a->n_prompt,
                     "completion_tokens", (json_int_t)a->n_answer, "total_tokens",
                     (json_int_t)a->n_prompt + a->n_answer, "prompt_tokens_details",
                     "cached_tokens", (json_int_t)a->n_cached);
}

/* The object around choices; takes choices. */
static json_t *envelope(const exo_openai_answer *a, const char *object, json_t *choices_take) {
    json_t *j = json_pack("{s:s, s:s, s:I, s:s, s:s, s:o}", "id", a->id, "object", object,
                          "created", a->created, "model", a->wish.model_id, "system_fingerprint",
                          "exo-" EXO_VERSION, "choices", choices_take);
    if (j != NULL && a->hash[0] != '\0') {
        json_object_set_new(j, "exo_logits_sha256", json_string(a->hash));
    }
    if (j != NULL && a->moves != NULL) json_object_set(j, "exo_profile_changes", a->moves);
    return j;
}

static json_t *choices_json(const exo_openai_answer *a, const char *key, json_t *value_take,
                            json_t *entries, exo_finish finish) {
    return json_pack("[{s:i, s:o, s:o, s:s?}]", "index", 0, key, value_take, "logprobs",
                     logprobs_json(a, entries), "finish_reason", finish_name(finish));
}

/* ---- streaming ---- */

static void send_chunk(exo_openai_answer *a, json_t *choices_take, bool usage) {
    json_t *j =
        envelope(a, a->wish.chat ? "chat.completion.chunk" : "text_completion", choices_take);
    if (a->wish.include_usage) {
        json_object_set_new(j, "usage", usage ? usage_json(a) : json_null());
    }
    exo_call_send_json(a->call, j);
}

static void send_role(exo_openai_answer *a) {
    if (a->role_sent || !a->wish.chat) return;
    a->role_sent = true;
    json_t *delta = json_pack("{s:s, s:s}", "role", "assistant", "content", "");
    json_t *choices = json_pack("[{s:i, s:o, s:n, s:n}]", "index", 0, "delta", delta, "logprobs",
                                "finish_reason");
    send_chunk(a, choices, false);
}

/* Log-probabilities are those of the content's tokens. */
static bool wants_logprob(const exo_openai_answer *a, const exo_node_event *e) {
    return a->wish.logprobs && !e->aside;
}

static void stream_token(exo_openai_answer *a, const exo_node_event *e) {
    send_role(a);
    json_t *entries = json_array();
    if (e->n_reasoning > 0) {
        json_t *delta =
            json_pack("{s:o}", "reasoning_content", json_stringn(e->reasoning, e->n_reasoning));
        send_chunk(a, choices_json(a, "delta", delta, entries, EXO_GOING_ON), false);
    }
    if (wants_logprob(a, e)) json_array_append_new(entries, logprob_entry(a, &e->draw));
    bool last = e->finish != EXO_GOING_ON;
    if (e->n_text > 0 || (wants_logprob(a, e) && !last)) {
        json_t *text = json_stringn(e->text, e->n_text);
        json_t *value = a->wish.chat ? json_pack("{s:o}", "content", text) : text;
        send_chunk(a,
                   choices_json(a, a->wish.chat ? "delta" : "text", value, entries, EXO_GOING_ON),
                   false);
        json_array_clear(entries);
    }
    if (last) {
        json_t *value = a->wish.chat ? json_object() : json_string("");
        send_chunk(a, choices_json(a, a->wish.chat ? "delta" : "text", value, entries, e->finish),
                   false);
        if (a->wish.include_usage) send_chunk(a, json_array(), true);
        exo_call_send_text(a->call, "data: [DONE]\n\n");
        exo_call_end_stream(a->call);
    }
    json_decref(entries);
}

/* ---- whole replies ---- */

static void reply_whole(exo_openai_answer *a, exo_finish finish) {
    json_t *text = json_stringn(exo_buf_str(&a->text), a->text.n);
    json_t *value = text;
    if (a->wish.chat) {
        value = json_pack("{s:s, s:o, s:n}", "role", "assistant", "content", text, "refusal");
        if (a->reasoning.n > 0) {
            json_object_set_new(value, "reasoning_content",
                                json_stringn(exo_buf_str(&a->reasoning), a->reasoning.n));
        }
    }
    json_t *choices =
        choices_json(a, a->wish.chat ? "message" : "text", value, a->logprobs, finish);
    json_t *j = envelope(a, a->wish.chat ? "chat.completion" : "text_completion", choices);
    json_object_set_new(j, "usage", usage_json(a));
    exo_call_reply_json(a->call, MHD_HTTP_OK, j);
}

/* A device failed and the CPU took over: what was sent stays, the rest of the reply says so. */
static void note_move(exo_openai_answer *a, const exo_node_event *e) {
    if (a->moves == NULL) a->moves = json_array();
    json_array_append_new(a->moves,
                          json_pack("{s:I, s:i, s:s, s:s}", "at_token", (json_int_t)e->n_answer,
                                    "stage", (int)e->move->stage, "device_id", e->move->device_id,
                                    "reason", e->move->reason));
}

void exo_openai_on_event(void *answer, const exo_node_event *e) {
    exo_openai_answer *a = answer;
    a->n_prompt = e->n_prompt;
    a->n_cached = e->n_cached;
    a->n_answer = e->n_answer;
    if (e->logits_hash != NULL) exo_hex(e->logits_hash, EXO_SHA256_BYTES, a->hash);
    if (e->move != NULL) note_move(a, e);
    bool last = e->status != EXO_OK || e->finish != EXO_GOING_ON;
    if (e->status != EXO_OK) {
        exo_call_fail(a->call, e->status, e->message);
    } else if (a->wish.stream) {
        if (e->has_token) stream_token(a, e);
    } else if (e->has_token) {
        exo_buf_append(&a->text, e->text, e->n_text);
        exo_buf_append(&a->reasoning, e->reasoning, e->n_reasoning);
        if (wants_logprob(a, e)) json_array_append_new(a->logprobs, logprob_entry(a, &e->draw));
        if (last) reply_whole(a, e->finish);
    }
    if (!last) return;
    exo_call_release(a->call);
    exo_openai_answer_destroy(a);
}
