/* openai_request.c - a body becomes a request; see openai.h. */
#include "api/openai.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "model/chat.h"
#include "model/format.h"

#include <float.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_TEMPERATURE 1.0f /* as OpenAI documents it */

static void read_stops(exo_fields *f, exo_request *r) {
    const json_t *j = exo_fields_get(f, "stop");
    if (j == NULL || !exo_fields_ok(f)) return;
    size_t n = json_is_array(j) ? json_array_size(j) : 1;
    if (n > EXO_MAX_STOPS) {
        exo_fields_fail(f, "stop", EXO_EINVAL, "may have %d strings at most", EXO_MAX_STOPS);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *s = json_is_array(j) ? json_array_get(j, i) : j;
        size_t bytes = json_string_length(s);
        if (!json_is_string(s) || bytes == 0 || bytes > EXO_MAX_STOP_BYTES ||
            strlen(json_string_value(s)) != bytes) {
            exo_fields_fail(f, "stop", EXO_EINVAL,
                            "must be a string of 1 to %d bytes without NUL, or an array of them",
                            EXO_MAX_STOP_BYTES);
            return;
        }
        r->stops[i] = exo_strdup(json_string_value(s));
        if (r->stops[i] == NULL) {
            exo_fields_fail(f, "stop", EXO_ENOMEM, "does not fit in memory");
            return;
        }
        r->n_stops = (uint32_t)i + 1;
    }
}

static void read_bias(exo_fields *f, exo_sampling *s, uint32_t n_vocab) {
    const json_t *j = exo_fields_get(f, "logit_bias");
    if (j == NULL || !exo_fields_ok(f)) return;
    size_t n = json_object_size(j);
    if (!json_is_object(j) || n > EXO_MAX_BIAS) {
        exo_fields_fail(f, "logit_bias", EXO_EINVAL, "must be an object of %d members at most",
                        EXO_MAX_BIAS);
        return;
    }
    s->bias = exo_calloc(n, sizeof *s->bias);
    if (s->bias == NULL) {
        exo_fields_fail(f, "logit_bias", EXO_ENOMEM, "does not fit in memory");
        return;
    }
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)j, key, value) {
        char *end;
        unsigned long id = strtoul(key, &end, 10);
        double bias = json_number_value(value);
        if (*key < '0' || *key > '9' || *end != '\0' || id >= n_vocab || !json_is_number(value) ||
            !(bias >= -100 && bias <= 100)) {
            exo_fields_fail(f, "logit_bias", EXO_EINVAL,
                            "maps token ids below %u to numbers from -100 to 100", n_vocab);
            return;
        }
        s->bias[s->n_bias++] = (exo_logit_bias){(int32_t)id, (float)bias};
    }
}

static void read_seed(exo_fields *f, exo_sampling *s) {
    int64_t seed = 0;
    bool given = exo_fields_i64(f, "seed", &seed);
    if (!given && RAND_bytes((unsigned char *)&seed, sizeof seed) != 1) {
        seed = (int64_t)exo_now_ns();
    }
    /* 0 means "not drawn yet" inside; any other number takes its place */
    s->seed = seed == 0 ? 0x9E3779B97F4A7C15u : (uint64_t)seed;
}

static void read_sampling(exo_fields *f, exo_request *r, uint32_t n_vocab) {
    exo_sampling *s = &r->sampling;
    s->temperature = DEFAULT_TEMPERATURE;
    exo_fields_float(f, "temperature", 0, 100, &s->temperature);
    bool has_top_p = exo_fields_float(f, "top_p", 0, 1, &s->top_p);
    if (has_top_p && s->top_p == 0) s->top_p = FLT_MIN; /* inside, 0 is off; here, the likeliest */
    exo_fields_u32(f, "top_k", 0, INT32_MAX, &s->top_k);
    exo_fields_float(f, "min_p", 0, 1, &s->min_p);
    exo_fields_float(f, "typical_p", 0, 1, &s->typical_p);
    exo_fields_float(f, "repetition_penalty", 0.01, 10, &s->repeat_penalty);
    exo_fields_float(f, "presence_penalty", -2, 2, &s->presence_penalty);
    exo_fields_float(f, "frequency_penalty", -2, 2, &s->frequency_penalty);
    read_seed(f, s);
    read_stops(f, r);
    read_bias(f, s, n_vocab);
}

static void read_limits(exo_fields *f, const exo_openai_wish *w, exo_request *r) {
    uint32_t n = 1;
    exo_fields_u32(f, "n", 1, UINT32_MAX, &n);
    if (n != 1) exo_fields_fail(f, "n", EXO_EUNSUPPORTED, "must be 1");
    exo_fields_u32(f, "max_tokens", 1, INT32_MAX, &r->max_tokens);
    if (w->chat) exo_fields_u32(f, "max_completion_tokens", 1, INT32_MAX, &r->max_tokens);
    exo_fields_bool(f, "ignore_eos", &r->ignore_end);
}

static void read_logprobs(exo_fields *f, exo_openai_wish *w, exo_request *r) {
    exo_sampling *s = &r->sampling;
    if (w->chat) {
        exo_fields_bool(f, "logprobs", &w->logprobs);
        bool tops = exo_fields_u32(f, "top_logprobs", 0, EXO_MAX_LOGPROBS, &s->n_logprobs);
        if (tops && !w->logprobs) {
            exo_fields_fail(f, "top_logprobs", EXO_EINVAL, "needs \"logprobs\": true");
        }
    } else {
        w->logprobs = exo_fields_u32(f, "logprobs", 0, EXO_MAX_LOGPROBS, &s->n_logprobs);
    }
    s->want_logprobs = w->logprobs;
    exo_fields_bool(f, "exo_logits_hash", &w->logits_hash);
    r->hash_logits = w->logits_hash;
}

static void read_stream(exo_fields *f, exo_openai_wish *w) {
    exo_fields_bool(f, "stream", &w->stream);
    const json_t *options = exo_fields_get(f, "stream_options");
    if (options == NULL) return;
    if (!json_is_object(options)) {
        exo_fields_fail(f, "stream_options", EXO_EINVAL, "must be an object");
        return;
    }
    const json_t *usage = json_object_get(options, "include_usage");
    if (usage != NULL && !json_is_null(usage) && !json_is_boolean(usage)) {
        exo_fields_fail(f, "stream_options", EXO_EINVAL, "has \"include_usage\": true or false");
    }
    w->include_usage = json_is_true(usage);
}

/* What this server cannot do is refused, not ignored. */
static void refuse_unsupported(exo_fields *f) {
    const json_t *format = exo_fields_get(f, "response_format");
    const char *type = json_string_value(json_object_get(format, "type"));
    if (format != NULL && (type == NULL || strcmp(type, "text") != 0)) {
        exo_fields_fail(f, "response_format", EXO_EUNSUPPORTED, "can only be {\"type\": \"text\"}");
    }
    bool echo = false;
    exo_fields_bool(f, "echo", &echo);
    if (echo) exo_fields_fail(f, "echo", EXO_EUNSUPPORTED, "must be false");
    uint32_t best_of = 1;
    exo_fields_u32(f, "best_of", 1, UINT32_MAX, &best_of);
    if (best_of != 1) exo_fields_fail(f, "best_of", EXO_EUNSUPPORTED, "must be 1");
    const char *suffix = NULL;
    if (exo_fields_string(f, "suffix", &suffix) && *suffix != '\0') {
        exo_fields_fail(f, "suffix", EXO_EUNSUPPORTED, "must be empty");
    }
    const json_t *modalities = exo_fields_get(f, "modalities");
    const char *modality = json_string_value(json_array_get(modalities, 0));
    if (modalities != NULL &&
        (json_array_size(modalities) != 1 || modality == NULL || strcmp(modality, "text") != 0)) {
        exo_fields_fail(f, "modalities", EXO_EUNSUPPORTED, "can only be [\"text\"]");
    }
    const json_t *choice = exo_fields_get(f, "tool_choice");
    const char *name = json_string_value(choice);
    if (choice != NULL &&
        (name == NULL || (strcmp(name, "auto") != 0 && strcmp(name, "none") != 0))) {
        exo_fields_fail(f, "tool_choice", EXO_EUNSUPPORTED, "can only be \"auto\" or \"none\"");
    }
}

/* ---- the prompt ---- */

typedef struct {
    const exo_model *model;
    uint32_t ctx; /* tokens */
    exo_ids ids;
} prompt;

/* Refuses what cannot fit by its size alone: tokenising megabytes would keep others waiting. */
static void check_bytes(exo_fields *f, const char *member, const prompt *p, size_t n_bytes) {
    if (n_bytes < p->ctx) return;
    const exo_tokenizer *t = exo_model_tokenizer(p->model);
    size_t longest = 1;
    for (uint32_t i = 0; i < exo_tokenizer_n_vocab(t); i++) {
        size_t n = exo_tokenizer_piece(t, (int32_t)i).n;
        if (n > longest) longest = n;
    }
    size_t least = n_bytes / longest;
    if (least < p->ctx) return;
    exo_fields_fail(f, member, EXO_ETOOLONG,
                    "has at least %zu tokens, but the context of this model holds %u", least,
                    p->ctx);
}

/* "content" as a string: the text parts of an array joined. */
static json_t *content_text(exo_fields *f, const json_t *content) {
    if (content == NULL || json_is_null(content)) return json_null();
    if (json_is_string(content)) return json_incref((json_t *)content);
    exo_buf text = {0};
    for (size_t i = 0; i < json_array_size(content); i++) {
        const json_t *part = json_array_get(content, i);
        const char *type = json_string_value(json_object_get(part, "type"));
        const json_t *t = json_object_get(part, "text");
        if (type == NULL || strcmp(type, "text") != 0 || !json_is_string(t)) {
            exo_fields_fail(f, "messages", EXO_EUNSUPPORTED,
                            "may only have parts of type \"text\"");
            break;
        }
        exo_buf_append(&text, json_string_value(t), json_string_length(t));
    }
    json_t *j = json_stringn(exo_buf_str(&text), text.n);
    if (!json_is_array(content)) {
        exo_fields_fail(f, "messages", EXO_EINVAL, "must have string or array contents");
    } else if (!exo_buf_ok(&text)) {
        exo_fields_fail(f, "messages", EXO_ENOMEM, "do not fit in memory");
    }
    exo_buf_finish(&text);
    return j;
}

/* Only an assistant may have said nothing: it called tools. */
static bool lacks_content(const json_t *message) {
    const json_t *content = json_object_get(message, "content");
    const char *role = json_string_value(json_object_get(message, "role"));
    return (content == NULL || json_is_null(content)) && strcmp(role, "assistant") != 0;
}

/* Clients send an earlier answer's reasoning as they got it; some templates call it "thinking".
 * Which of it is shown to the model is the template's decision. */
static void copy_reasoning(json_t *message) {
    json_t *reasoning = json_object_get(message, "reasoning_content");
    bool calls = json_array_size(json_object_get(message, "tool_calls")) > 0;
    bool says = json_string_length(json_object_get(message, "content")) > 0;
    if (!json_is_string(reasoning) || json_object_get(message, "thinking") != NULL) return;
    if (calls && says) return; /* gpt-oss takes one of them */
    json_object_set(message, "thinking", reasoning);
}

static json_t *read_messages(exo_fields *f, const prompt *p) {
    const json_t *messages = exo_fields_get(f, "messages");
    if (!json_is_array(messages) || json_array_size(messages) == 0) {
        exo_fields_fail(f, "messages", EXO_EINVAL, "must be an array with at least one message");
        return NULL;
    }
    json_t *out = json_array();
    size_t n_bytes = 0;
    for (size_t i = 0; i < json_array_size(messages) && exo_fields_ok(f); i++) {
        const json_t *m = json_array_get(messages, i);
        if (!json_is_string(json_object_get(m, "role"))) {
            exo_fields_fail(f, "messages", EXO_EINVAL, "[%zu] must be an object with a \"role\"",
                            i);
            break;
        }
        if (lacks_content(m)) {
            exo_fields_fail(f, "messages", EXO_EINVAL, "[%zu] must have a \"content\"", i);
            break;
        }
        json_t *copy = json_copy((json_t *)m);
        json_object_set_new(copy, "content", content_text(f, json_object_get(m, "content")));
        n_bytes += json_string_length(json_object_get(copy, "content"));
        copy_reasoning(copy);
        json_array_append_new(out, copy);
    }
    check_bytes(f, "messages", p, n_bytes);
    return out;
}

static void chat_prompt(exo_fields *f, prompt *p) {
    json_t *messages = read_messages(f, p);
    const json_t *tools = exo_fields_get(f, "tools");
    const json_t *extra = exo_fields_get(f, "chat_template_kwargs");
    if (tools != NULL && !json_is_array(tools)) {
        exo_fields_fail(f, "tools", EXO_EINVAL, "must be an array");
    }
    for (size_t i = 0; i < json_array_size(tools); i++) {
        if (json_is_object(json_array_get(tools, i))) continue;
        exo_fields_fail(f, "tools", EXO_EINVAL, "[%zu] must be an object", i);
        break;
    }
    const char *choice = json_string_value(exo_fields_get(f, "tool_choice"));
    if (choice != NULL && strcmp(choice, "none") == 0) tools = NULL;
    if (extra != NULL && !json_is_object(extra)) {
        exo_fields_fail(f, "chat_template_kwargs", EXO_EINVAL, "must be an object");
    }
    const char *effort = NULL;
    exo_fields_string(f, "reasoning_effort", &effort);
    json_t *vars = json_object();
    if (exo_fields_ok(f) && vars != NULL) {
        exo_error err = {0};
        if (effort != NULL) json_object_set_new(vars, "reasoning_effort", json_string(effort));
        if (extra != NULL) json_object_update(vars, (json_t *)extra);
        json_object_set(vars, "messages", messages);
        if (json_array_size(tools) > 0) json_object_set(vars, "tools", (json_t *)tools);
        exo_status st = exo_chat_tokenize(p->model, vars, &p->ids, &err);
        if (st != EXO_OK) {
            exo_fields_fail(f, "messages", st, "were refused by the chat template: %s",
                            err.message);
        }
    }
    json_decref(vars);
    json_decref(messages);
}

static void id_prompt(exo_fields *f, const json_t *list, prompt *p) {
    uint32_t n_vocab = exo_model_hparams(p->model)->n_vocab;
    exo_ids *ids = &p->ids;
    size_t n = json_array_size(list);
    if (exo_grow((void **)&ids->ids, &ids->cap, n, sizeof *ids->ids) != 0) {
        exo_fields_fail(f, "prompt", EXO_ENOMEM, "does not fit in memory");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *j = json_array_get(list, i);
        json_int_t id = json_integer_value(j);
        if (!json_is_integer(j) || id < 0 || id >= n_vocab) {
            exo_fields_fail(f, "prompt", EXO_EINVAL, "[%zu] must be a token id below %u", i,
                            n_vocab);
            return;
        }
        ids->ids[ids->n++] = (int32_t)id;
    }
}

/* A string, an array of one string, or token ids. */
static void text_prompt(exo_fields *f, prompt *p) {
    const json_t *text = exo_fields_get(f, "prompt");
    if (json_array_size(text) == 1 && !json_is_integer(json_array_get(text, 0))) {
        text = json_array_get(text, 0);
    }
    if (json_is_integer(json_array_get(text, 0))) {
        id_prompt(f, text, p);
        return;
    }
    if (!json_is_string(text)) {
        exo_fields_fail(f, "prompt", EXO_EINVAL, "must be one string, or an array of token ids");
        return;
    }
    check_bytes(f, "prompt", p, json_string_length(text));
    if (!exo_fields_ok(f)) return;
    exo_error err = {0};
    exo_status st = exo_tokenize(exo_model_tokenizer(p->model), json_string_value(text),
                                 json_string_length(text), EXO_TOKENIZE_BOS | EXO_TOKENIZE_SPECIAL,
                                 &p->ids, &err);
    if (st != EXO_OK) exo_fields_fail(f, "prompt", st, "cannot be tokenised: %s", err.message);
}

static void read_prompt(exo_fields *f, exo_node *n, const exo_openai_wish *w, const exo_model *m,
                        exo_request *r) {
    prompt p = {.model = m, .ctx = exo_node_ctx(n, m)};
    const char *member = w->chat ? "messages" : "prompt";
    if (w->chat) {
        chat_prompt(f, &p);
    } else {
        text_prompt(f, &p);
    }
    if (exo_fields_ok(f) && p.ids.n == 0) exo_fields_fail(f, member, EXO_EINVAL, "has no tokens");
    if (p.ids.n >= p.ctx) {
        exo_fields_fail(f, member, EXO_ETOOLONG,
                        "has %zu tokens, but the context of this model holds %u", p.ids.n, p.ctx);
    }
    r->prompt = p.ids.ids;
    r->n_prompt = p.ids.n;
    r->format = w->chat ? exo_chat_format(m) : EXO_FORMAT_PLAIN;
}

void exo_openai_parse(exo_fields *f, exo_node *n, exo_openai_wish *wish, exo_request *request,
                      exo_model **model) {
    const char *id = NULL;
    *model = NULL;
    exo_fields_string(f, "model", &id);
    if (id == NULL) exo_fields_fail(f, "model", EXO_EINVAL, "is missing");
    read_stream(f, wish);
    read_limits(f, wish, request);
    read_logprobs(f, wish, request);
    refuse_unsupported(f);
    if (!exo_fields_ok(f)) return;
    exo_error err = {0};
    exo_status st = exo_node_model(n, id, model, &err);
    if (st != EXO_OK) {
        exo_fields_fail(f, "model", st, "cannot be used: %s", err.message);
        return;
    }
    snprintf(wish->model_id, sizeof wish->model_id, "%s", exo_model_id(*model));
    read_sampling(f, request, exo_model_hparams(*model)->n_vocab);
    if (exo_fields_ok(f)) read_prompt(f, n, wish, *model, request);
    uint8_t random[12];
    char hex[2 * sizeof random + 1];
    RAND_bytes(random, sizeof random);
    exo_hex(random, sizeof random, hex);
    snprintf(request->id, sizeof request->id, "%s-%s", wish->chat ? "chatcmpl" : "cmpl", hex);
}
