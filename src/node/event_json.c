/* event_json.c - see event_json.h.  Log-probabilities travel as their bits: JSON has no -inf. */
#include "node/event_json.h"

#include <string.h>

static json_int_t float_bits(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return (json_int_t)u;
}

static float bits_float(const json_t *j) {
    uint32_t u = (uint32_t)json_integer_value(j);
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

json_t *exo_event_to_json(const exo_node_event *e) {
    json_t *m = json_pack("{s:i, s:s, s:b, s:i, s:I, s:I, s:I}", "status", (int)e->status,
                          "message", e->message != NULL ? e->message : "", "started", e->started,
                          "finish", (int)e->finish, "n_prompt", (json_int_t)e->n_prompt, "n_cached",
                          (json_int_t)e->n_cached, "n_answer", (json_int_t)e->n_answer);
    if (m == NULL) return NULL;
    if (e->n_text > 0) json_object_set_new(m, "text", json_stringn(e->text, e->n_text));
    if (e->n_reasoning > 0) {
        json_object_set_new(m, "reasoning", json_stringn(e->reasoning, e->n_reasoning));
    }
    if (e->aside) json_object_set_new(m, "aside", json_true());
    if (e->move != NULL) {
        json_object_set_new(m, "move",
                            json_pack("{s:i, s:s, s:s}", "stage", (int)e->move->stage, "device_id",
                                      e->move->device_id, "reason", e->move->reason));
    }
    if (!e->has_token) return m;
    json_object_set_new(m, "token", json_integer(e->draw.id));
    json_object_set_new(m, "pos", json_integer((json_int_t)e->pos));
    json_object_set_new(m, "logprob", json_integer(float_bits(e->draw.logprob)));
    json_t *top = json_array();
    for (uint32_t i = 0; i < e->draw.n_top; i++) {
        json_array_append_new(
            top, json_pack("[i, I]", e->draw.top[i].id, float_bits(e->draw.top[i].logprob)));
    }
    json_object_set_new(m, "top", top);
    if (e->logits_hash != NULL) {
        char hex[EXO_SHA256_HEX_BYTES];
        exo_hex(e->logits_hash, EXO_SHA256_BYTES, hex);
        json_object_set_new(m, "logits_hash", json_string(hex));
    }
    return m;
}

static int nibble(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool hash_from_json(const json_t *j, uint8_t out[EXO_SHA256_BYTES]) {
    const char *hex = json_string_value(j);
    if (hex == NULL || strlen(hex) != EXO_SHA256_HEX_BYTES - 1) return false;
    for (size_t i = 0; i < EXO_SHA256_BYTES; i++) {
        int high = nibble(hex[2 * i]), low = nibble(hex[2 * i + 1]);
        if (high < 0 || low < 0) return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static uint32_t get_count(const json_t *m, const char *key) {
    json_int_t v = json_integer_value(json_object_get(m, key));
    return v > 0 && v <= INT32_MAX ? (uint32_t)v : 0;
}

static const char *text_from_json(const json_t *m, const char *key, size_t *n) {
    const json_t *text = json_object_get(m, key);
    *n = json_string_length(text);
    return json_is_string(text) ? json_string_value(text) : "";
}

static void draw_from_json(const json_t *m, exo_node_event *e) {
    e->has_token = true;
    e->pos = get_count(m, "pos");
    e->draw.id = (int32_t)json_integer_value(json_object_get(m, "token"));
    e->draw.logprob = bits_float(json_object_get(m, "logprob"));
    const json_t *top = json_object_get(m, "top");
    for (size_t i = 0; i < json_array_size(top) && i < EXO_MAX_LOGPROBS; i++) {
        const json_t *pair = json_array_get(top, i);
        e->draw.top[i].id = (int32_t)json_integer_value(json_array_get(pair, 0));
        e->draw.top[i].logprob = bits_float(json_array_get(pair, 1));
        e->draw.n_top = (uint32_t)i + 1;
    }
}

static void move_from_json(const json_t *m, exo_event_copy *out) {
    const char *device = json_string_value(json_object_get(m, "device_id"));
    const char *reason = json_string_value(json_object_get(m, "reason"));
    if (device == NULL || reason == NULL || strlen(device) >= sizeof out->move.device_id ||
        strlen(reason) >= sizeof out->move.reason) {
        return;
    }
    out->move.stage = get_count(m, "stage");
    memcpy(out->move.device_id, device, strlen(device) + 1);
    memcpy(out->move.reason, reason, strlen(reason) + 1);
    out->event.move = &out->move;
}

void exo_event_from_json(const json_t *m, exo_event_copy *out) {
    *out = (exo_event_copy){0};
    exo_node_event *e = &out->event;
    json_int_t status = json_integer_value(json_object_get(m, "status"));
    json_int_t finish = json_integer_value(json_object_get(m, "finish"));
    const char *message = json_string_value(json_object_get(m, "message"));
    e->message = message != NULL ? message : "";
    bool has_token = json_is_integer(json_object_get(m, "token"));
    if (status > EXO_OK || status < EXO_EINTERNAL || finish < EXO_GOING_ON ||
        finish > EXO_FINISH_LENGTH || (finish != EXO_GOING_ON && !has_token)) {
        e->status = EXO_EFORMAT;
        e->message = "the answering node sent an event that makes no sense";
        return;
    }
    e->status = (exo_status)status;
    e->finish = (exo_finish)finish;
    e->started = json_is_true(json_object_get(m, "started"));
    e->n_prompt = get_count(m, "n_prompt");
    e->n_cached = get_count(m, "n_cached");
    e->n_answer = get_count(m, "n_answer");
    e->aside = json_is_true(json_object_get(m, "aside"));
    e->text = text_from_json(m, "text", &e->n_text);
    e->reasoning = text_from_json(m, "reasoning", &e->n_reasoning);
    if (has_token) draw_from_json(m, e);
    move_from_json(json_object_get(m, "move"), out);
    if (hash_from_json(json_object_get(m, "logits_hash"), out->hash)) e->logits_hash = out->hash;
}
