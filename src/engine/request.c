/* request.c - copying, checking and writing down the request descriptor.
 *
 * One table names every plain member with its kind and range; JSON in both directions and the
 * range check walk it, so that a member cannot be sent but not read, or read but not checked.
 * Knows nothing of HTTP: what a client may leave out is settled before. */
#include "engine/request.h"

#include "base/mem.h"
#include "model/format.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define MAX_BIAS_ABS 10000.0

typedef enum { KIND_F32, KIND_U32, KIND_SIZE, KIND_BOOL } member_kind;

typedef struct {
    const char *name;
    size_t offset;
    member_kind kind;
    double min, max;
} member;

#define AT(field) offsetof(exo_sampling, field)
static const member sampling_members[] = {
    {"temperature", AT(temperature), KIND_F32, 0, 100},
    {"top_k", AT(top_k), KIND_U32, 0, INT32_MAX},
    {"top_p", AT(top_p), KIND_F32, 0, 1},
    {"min_p", AT(min_p), KIND_F32, 0, 1},
    {"typical_p", AT(typical_p), KIND_F32, 0, 1},
    {"repeat_penalty", AT(repeat_penalty), KIND_F32, 0, 100},
    {"repeat_last_n", AT(repeat_last_n), KIND_U32, 0, UINT32_MAX},
    {"presence_penalty", AT(presence_penalty), KIND_F32, -100, 100},
    {"frequency_penalty", AT(frequency_penalty), KIND_F32, -100, 100},
    {"choice", AT(choice), KIND_U32, 0, UINT32_MAX},
    {"n_logprobs", AT(n_logprobs), KIND_U32, 0, EXO_MAX_LOGPROBS},
    {"want_logprobs", AT(want_logprobs), KIND_BOOL, 0, 1},
};
#undef AT

#define AT(field) offsetof(exo_request, field)
static const member request_members[] = {
    {"n_prompt", AT(n_prompt), KIND_SIZE, 0, INT32_MAX},
    {"max_tokens", AT(max_tokens), KIND_U32, 0, UINT32_MAX},
    {"ignore_end", AT(ignore_end), KIND_BOOL, 0, 1},
    {"hash_logits", AT(hash_logits), KIND_BOOL, 0, 1},
    {"format", AT(format), KIND_U32, 0, EXO_N_FORMATS - 1},
};
#undef AT

#define N_OF(table) (sizeof(table) / sizeof(table)[0])

/* ---- memory ---- */

void exo_request_finish(exo_request *r) {
    exo_free(r->prompt);
    exo_free(r->sampling.bias);
    for (uint32_t i = 0; i < EXO_MAX_STOPS; i++) exo_free(r->stops[i]);
    *r = (exo_request){0};
}

static exo_status no_memory(exo_request *r, exo_error *err) {
    exo_request_finish(r);
    return exo_error_set(err, EXO_ENOMEM, "no memory for a request");
}

exo_status exo_request_dup(const exo_request *r, exo_request *out, exo_error *err) {
    *out = *r;
    out->prompt = NULL;
    out->sampling.bias = NULL;
    memset(out->stops, 0, sizeof out->stops);
    if (r->prompt != NULL && r->n_prompt > 0) {
        out->prompt = exo_malloc(r->n_prompt * sizeof *out->prompt);
        if (out->prompt == NULL) return no_memory(out, err);
        memcpy(out->prompt, r->prompt, r->n_prompt * sizeof *out->prompt);
    }
    uint32_t n_bias = r->sampling.n_bias;
    if (n_bias > 0) {
        out->sampling.bias = exo_malloc(n_bias * sizeof *out->sampling.bias);
        if (out->sampling.bias == NULL) return no_memory(out, err);
        memcpy(out->sampling.bias, r->sampling.bias, n_bias * sizeof *out->sampling.bias);
    }
    for (uint32_t i = 0; i < r->n_stops; i++) {
        out->stops[i] = exo_strdup(r->stops[i]);
        if (out->stops[i] == NULL) return no_memory(out, err);
    }
    return EXO_OK;
}

/* ---- checks ---- */

static double get_member(const void *base, const member *m) {
    const char *at = (const char *)base + m->offset;
    switch (m->kind) {
    case KIND_F32: return (double)*(const float *)at;
    case KIND_U32: return (double)*(const uint32_t *)at;
    case KIND_SIZE: return (double)*(const size_t *)at;
    case KIND_BOOL: return *(const bool *)at ? 1 : 0;
    }
    return 0;
}

static void set_member(void *base, const member *m, double v) {
    char *at = (char *)base + m->offset;
    switch (m->kind) {
    case KIND_F32: *(float *)at = (float)v; break;
    case KIND_U32: *(uint32_t *)at = (uint32_t)v; break;
    case KIND_SIZE: *(size_t *)at = (size_t)v; break;
    case KIND_BOOL: *(bool *)at = v != 0; break;
    }
}

static bool bias_ok(double b) { return b >= -MAX_BIAS_ABS && b <= MAX_BIAS_ABS; }

exo_status exo_sampling_check(const exo_sampling *p, exo_error *err) {
    for (size_t i = 0; i < N_OF(sampling_members); i++) {
        const member *m = &sampling_members[i];
        double v = get_member(p, m);
        if (!(v >= m->min && v <= m->max))
            return exo_error_set(err, EXO_EINVAL, "\"%s\" is %g, but must be from %g to %g",
                                 m->name, v, m->min, m->max);
    }
    if (p->n_bias > EXO_MAX_BIAS)
        return exo_error_set(err, EXO_EINVAL, "%" PRIu32 " logit biases, but at most %d are taken",
                             p->n_bias, EXO_MAX_BIAS);
    for (uint32_t i = 0; i < p->n_bias; i++) {
        if (!bias_ok((double)p->bias[i].bias))
            return exo_error_set(err, EXO_EINVAL,
                                 "the logit bias of token %" PRId32 " is not within +-%g",
                                 p->bias[i].id, MAX_BIAS_ABS);
    }
    return EXO_OK;
}

exo_status exo_request_check_vocab(const exo_request *r, uint32_t n_vocab, exo_error *err) {
    for (size_t i = 0; r->prompt != NULL && i < r->n_prompt; i++) {
        if (r->prompt[i] < 0 || (uint32_t)r->prompt[i] >= n_vocab)
            return exo_error_set(err, EXO_EINVAL,
                                 "prompt token %zu is %" PRId32
                                 ", but the vocabulary ends at %" PRIu32,
                                 i, r->prompt[i], n_vocab - 1);
    }
    const exo_sampling *p = &r->sampling;
    for (uint32_t i = 0; i < p->n_bias; i++) {
        if (p->bias[i].id < 0 || (uint32_t)p->bias[i].id >= n_vocab)
            return exo_error_set(err, EXO_EINVAL,
                                 "logit bias for token %" PRId32
                                 ", but the vocabulary ends at %" PRIu32,
                                 p->bias[i].id, n_vocab - 1);
    }
    return EXO_OK;
}

/* ---- to JSON ---- */

static bool put_members(json_t *object, const void *base, const member *table, size_t n) {
    for (size_t i = 0; i < n; i++) {
        double v = get_member(base, &table[i]);
        json_t *value = table[i].kind == KIND_BOOL  ? json_boolean(v != 0)
                        : table[i].kind == KIND_F32 ? json_real(v)
                                                    : json_integer((json_int_t)v);
        if (json_object_set_new(object, table[i].name, value) != 0) return false;
    }
    return true;
}

static json_t *bias_to_json(const exo_sampling *p) {
    json_t *list = json_array();
    for (uint32_t i = 0; list != NULL && i < p->n_bias; i++) {
        json_t *pair = json_pack("[i, f]", (int)p->bias[i].id, (double)p->bias[i].bias);
        if (json_array_append_new(list, pair) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *stops_to_json(const exo_request *r) {
    json_t *list = json_array();
    for (uint32_t i = 0; list != NULL && i < r->n_stops; i++) {
        if (json_array_append_new(list, json_string(r->stops[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

json_t *exo_request_to_json(const exo_request *r) {
    char seed[24];
    snprintf(seed, sizeof seed, "%" PRIu64, r->sampling.seed);
    json_t *sampling = json_object();
    json_t *object = json_object();
    bool ok = put_members(sampling, &r->sampling, sampling_members, N_OF(sampling_members)) &&
              json_object_set_new(sampling, "seed", json_string(seed)) == 0 &&
              json_object_set_new(sampling, "bias", bias_to_json(&r->sampling)) == 0 &&
              put_members(object, r, request_members, N_OF(request_members)) &&
              json_object_set_new(object, "id", json_string(r->id)) == 0 &&
              json_object_set_new(object, "stops", stops_to_json(r)) == 0 &&
              json_object_set(object, "sampling", sampling) == 0;
    json_decref(sampling);
    if (ok) return object;
    json_decref(object);
    return NULL;
}

/* ---- from JSON ---- */

static exo_status read_member(const json_t *j, const member *m, void *base, exo_error *err) {
    const json_t *value = json_object_get(j, m->name);
    if (value == NULL) return EXO_OK;
    if (m->kind == KIND_BOOL) {
        if (!json_is_boolean(value))
            return exo_error_set(err, EXO_EFORMAT, "request: \"%s\" must be true or false",
                                 m->name);
        set_member(base, m, json_is_true(value) ? 1 : 0);
        return EXO_OK;
    }
    bool integer = m->kind != KIND_F32;
    bool right_type = integer ? json_is_integer(value) : json_is_number(value);
    double v = right_type ? json_number_value(value) : (double)NAN;
    if (!(v >= m->min && v <= m->max))
        return exo_error_set(err, EXO_EFORMAT, "request: \"%s\" must be %s from %.10g to %.10g",
                             m->name, integer ? "an integer" : "a number", m->min, m->max);
    set_member(base, m, v);
    return EXO_OK;
}

static exo_status read_members(const json_t *j, void *base, const member *table, size_t n,
                               exo_error *err) {
    for (size_t i = 0; i < n; i++) {
        exo_status st = read_member(j, &table[i], base, err);
        if (st != EXO_OK) return st;
    }
    return EXO_OK;
}

static exo_status read_seed(const json_t *j, exo_sampling *p, exo_error *err) {
    const json_t *value = json_object_get(j, "seed");
    if (value == NULL) return EXO_OK;
    const char *digits = json_is_string(value) ? json_string_value(value) : "";
    uint64_t seed = 0;
    size_t n = 0;
    for (; digits[n] >= '0' && digits[n] <= '9'; n++) {
        uint64_t digit = (uint64_t)(digits[n] - '0');
        if (seed > (UINT64_MAX - digit) / 10) break;
        seed = seed * 10 + digit;
    }
    if (n == 0 || digits[n] != '\0')
        return exo_error_set(err, EXO_EFORMAT,
                             "request: \"seed\" must be a string of digits below 2^64");
    p->seed = seed;
    return EXO_OK;
}

static exo_status read_bias(const json_t *j, exo_sampling *p, exo_error *err) {
    const json_t *list = json_object_get(j, "bias");
    size_t n = json_array_size(list);
    if (list == NULL || (json_is_array(list) && n == 0)) return EXO_OK;
    if (!json_is_array(list) || n > EXO_MAX_BIAS)
        return exo_error_set(err, EXO_EFORMAT, "request: \"bias\" must be a list of at most %d",
                             EXO_MAX_BIAS);
    p->bias = exo_calloc(n, sizeof *p->bias);
    if (p->bias == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for logit biases");
    for (size_t i = 0; i < n; i++) {
        const json_t *pair = json_array_get(list, i);
        const json_t *id = json_array_get(pair, 0), *bias = json_array_get(pair, 1);
        if (json_array_size(pair) != 2 || !json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) > INT32_MAX || !json_is_number(bias) ||
            !bias_ok(json_number_value(bias)))
            return exo_error_set(err, EXO_EFORMAT,
                                 "request: \"bias\"[%zu] must be [token id, bias within +-%g]", i,
                                 MAX_BIAS_ABS);
        p->bias[i] = (exo_logit_bias){.id = (int32_t)json_integer_value(id),
                                      .bias = (float)json_number_value(bias)};
    }
    p->n_bias = (uint32_t)n;
    return EXO_OK;
}

static exo_status read_sampling(const json_t *j, exo_sampling *p, exo_error *err) {
    const json_t *object = json_object_get(j, "sampling");
    if (object == NULL) return EXO_OK;
    if (!json_is_object(object))
        return exo_error_set(err, EXO_EFORMAT, "request: \"sampling\" must be an object");
    exo_status st = read_members(object, p, sampling_members, N_OF(sampling_members), err);
    if (st == EXO_OK) st = read_seed(object, p, err);
    if (st == EXO_OK) st = read_bias(object, p, err);
    return st;
}

static exo_status read_stops(const json_t *j, exo_request *out, exo_error *err) {
    const json_t *list = json_object_get(j, "stops");
    if (list == NULL) return EXO_OK;
    size_t n = json_array_size(list);
    if (!json_is_array(list) || n > EXO_MAX_STOPS)
        return exo_error_set(err, EXO_EFORMAT,
                             "request: \"stops\" must be a list of at most %d strings",
                             EXO_MAX_STOPS);
    for (size_t i = 0; i < n; i++) {
        const json_t *stop = json_array_get(list, i);
        size_t n_bytes = json_string_length(stop);
        if (!json_is_string(stop) || n_bytes == 0 || n_bytes > EXO_MAX_STOP_BYTES ||
            strlen(json_string_value(stop)) != n_bytes)
            return exo_error_set(err, EXO_EFORMAT,
                                 "request: \"stops\"[%zu] must be a string of 1 to %d bytes", i,
                                 EXO_MAX_STOP_BYTES);
        out->stops[i] = exo_strdup(json_string_value(stop));
        if (out->stops[i] == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for stops");
        out->n_stops = (uint32_t)i + 1;
    }
    return EXO_OK;
}

static exo_status read_id(const json_t *j, exo_request *out, exo_error *err) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789._-";
    const json_t *value = json_object_get(j, "id");
    if (value == NULL) return EXO_OK;
    const char *id = json_string_value(value); /* NULL when it is no string */
    size_t n = json_string_length(value);
    if (id == NULL || n >= sizeof out->id || strspn(id, allowed) != n)
        return exo_error_set(err, EXO_EFORMAT,
                             "request: \"id\" must be a string of at most %zu letters, digits, "
                             "'.', '_' and '-'",
                             sizeof out->id - 1);
    memcpy(out->id, id, n + 1);
    return EXO_OK;
}

exo_status exo_request_from_json(const json_t *j, exo_request *out, exo_error *err) {
    *out = (exo_request){0};
    if (!json_is_object(j)) return exo_error_set(err, EXO_EFORMAT, "request: not a JSON object");
    exo_status st = read_members(j, out, request_members, N_OF(request_members), err);
    if (st == EXO_OK) st = read_id(j, out, err);
    if (st == EXO_OK) st = read_stops(j, out, err);
    if (st == EXO_OK) st = read_sampling(j, &out->sampling, err);
    if (st != EXO_OK) exo_request_finish(out);
    return st;
}
