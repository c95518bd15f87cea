/* fuzz_wire.c - what nodes of one cluster tell each other, behind the frame.
 *
 * The first byte chooses the message; the rest is its bytes:
 *   's' a step   'r' results   'a' an admission: header bytes u16, header, body
 *   'e' an event   'i' an instance   'm' a note on a stage that moves   'q' a request (JSON)
 * Beyond not crashing: what was understood is written again, and must be understood the same. */
#define _DEFAULT_SOURCE
#include "base/le.h"
#include "base/mem.h"
#include "engine/step.h"
#include "fuzz/target.h"
#include "node/event_json.h"
#include "node/instances_impl.h"
#include "node/stage_wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_RESULTS 16

/* ---- fixed layouts ---- */

static void fuzz_step(const uint8_t *bytes, size_t n) {
    exo_step step;
    exo_error err = {0};
    CHECK(exo_step_init(&step, 64, 64, NULL) == EXO_OK);
    if (exo_step_decode(&step, bytes, n, &err) == EXO_OK) {
        CHECK(step.n_rows <= 64 && step.n_pages <= 64 && exo_step_wire_bytes(&step) == n);
        uint8_t again[8 + 64 * 8 + 64 * 12];
        exo_step_encode(&step, again);
        CHECK(memcmp(again, bytes, n) == 0);
    } else {
        CHECK(err.message[0] != '\0' && step.n_rows == 0 && step.n_pages == 0);
    }
    exo_step_finish(&step);
}

static void fuzz_results(const uint8_t *bytes, size_t n) {
    exo_stage_result first[MAX_RESULTS], second[MAX_RESULTS];
    uint32_t n_first, n_second;
    exo_buf again = {0}, last = {0};
    if (exo_results_decode(bytes, n, MAX_RESULTS, first, &n_first, NULL) != EXO_OK) {
        CHECK(n_first == 0);
        return;
    }
    exo_results_encode(first, n_first, &again);
    CHECK(exo_results_decode((const uint8_t *)again.data, again.n, MAX_RESULTS, second, &n_second,
                             NULL) == EXO_OK);
    exo_results_encode(second, n_second, &last);
    CHECK(last.n == again.n && memcmp(last.data, again.data, last.n) == 0);
    exo_buf_finish(&again);
    exo_buf_finish(&last);
}

/* ---- JSON ---- */

static void check_request(const exo_request *r) {
    json_t *j = exo_request_to_json(r), *k;
    exo_request again;
    CHECK(j != NULL && exo_request_from_json(j, &again, NULL) == EXO_OK);
    k = exo_request_to_json(&again);
    CHECK(json_equal(j, k));
    exo_request_finish(&again);
    json_decref(j);
    json_decref(k);
    CHECK(exo_sampling_check(&r->sampling, NULL) == EXO_OK);
}

static void fuzz_admission(const uint8_t *bytes, size_t n) {
    if (n < 2) return;
    size_t n_header = exo_get_u16(bytes) < n - 2 ? exo_get_u16(bytes) : n - 2;
    exo_frame f = {.type = EXO_MSG_ADMIT,
                   .flags = EXO_FRAME_JSON,
                   .header = bytes + 2,
                   .header_bytes = (uint32_t)n_header,
                   .body = bytes + 2 + n_header,
                   .body_bytes = (uint32_t)(n - 2 - n_header)};
    exo_request request;
    exo_tokens history;
    uint32_t seq;
    if (exo_admit_decode(&f, &seq, &request, &history, NULL) != EXO_OK) {
        CHECK(history.ids == NULL && request.prompt == NULL);
        return;
    }
    CHECK(seq < EXO_MAX_SEQS && history.n * 4 == f.body_bytes);
    check_request(&request);
    exo_request_finish(&request);
    exo_free((void *)history.ids);
}

static void fuzz_request(const json_t *j) {
    exo_request request;
    exo_error err = {0};
    if (exo_request_from_json(j, &request, &err) == EXO_OK) {
        check_request(&request);
        exo_request_finish(&request);
    } else {
        CHECK(err.message[0] != '\0');
    }
}

static void fuzz_note(const uint8_t *bytes, size_t n) {
    exo_frame f = {.flags = EXO_FRAME_JSON, .header = bytes, .header_bytes = (uint32_t)n};
    exo_move_note note, again;
    if (exo_move_note_decode(&f, &note, NULL) != EXO_OK) return;
    char *text = exo_move_note_encode(&note);
    CHECK(text != NULL);
    f.header = (const uint8_t *)text;
    f.header_bytes = (uint32_t)strlen(text);
    CHECK(exo_move_note_decode(&f, &again, NULL) == EXO_OK);
    CHECK(again.op == note.op && again.stage == note.stage);
    CHECK(strcmp(again.device_id, note.device_id) == 0 && strcmp(again.reason, note.reason) == 0);
    free(text);
}

static void fuzz_event(const json_t *j) {
    exo_event_copy copy, again;
    exo_event_from_json(j, &copy);
    const exo_node_event *e = &copy.event;
    CHECK(e->finish == EXO_GOING_ON || e->has_token || e->status != EXO_OK);
    CHECK(e->message != NULL && e->draw.n_top <= EXO_MAX_LOGPROBS);
    json_t *m = exo_event_to_json(e);
    CHECK(m != NULL);
    exo_event_from_json(m, &again);
    CHECK(again.event.status == e->status && again.event.finish == e->finish);
    CHECK(again.event.n_text == e->n_text && again.event.draw.id == e->draw.id);
    CHECK(again.event.n_reasoning == e->n_reasoning && again.event.aside == e->aside);
    json_decref(m);
}

/* A node without links, as far as instances_json.c looks at it; never freed. */
static exo_node *node(void) {
    static exo_node n;
    if (n.identity != NULL) return &n;
    char dir[] = "/tmp/exo-fuzz-XXXXXX", key[64];
    CHECK(mkdtemp(dir) != NULL);
    CHECK(exo_identity_load(dir, &n.identity, NULL) == EXO_OK);
    snprintf(key, sizeof key, "%s/node.key", dir);
    unlink(key);
    rmdir(dir);
    return &n;
}

/* "self" as a shard's node_id stands for this node, whose id is new every time. */
static void fuzz_instance(json_t *j) {
    size_t at;
    json_t *shard;
    json_array_foreach(json_object_get(j, "shards"), at, shard) {
        const char *id = json_string_value(json_object_get(shard, "node_id"));
        if (id == NULL || strcmp(id, "self") != 0) continue;
        json_object_set_new(shard, "node_id", json_string(exo_identity_node_id(node()->identity)));
    }
    exo_instance *i = exo_calloc(1, sizeof *i);
    exo_instance_settings settings;
    exo_error err = {0};
    CHECK(i != NULL);
    i->node = node();
    if (exo_instance_from_json(j, i, &settings, &err) == EXO_OK) {
        CHECK(i->n_stages > 0 && i->n_stages <= EXO_MAX_STAGES && i->my_stage < i->n_stages);
        CHECK(settings.max_seqs <= EXO_MAX_SEQS);
        for (uint32_t s = 0, layer = 0; s < i->n_stages; s++) {
            CHECK(i->stages[s].place.start_layer == layer);
            CHECK(i->stages[s].place.end_layer > layer);
            layer = i->stages[s].place.end_layer;
        }
        json_t *shown = exo_instance_json(i);
        CHECK(shown != NULL);
        json_decref(shown);
    } else {
        CHECK(err.message[0] != '\0');
    }
    exo_free(i);
}

/* As a control link reads it. */
static void fuzz_json(char kind, const uint8_t *bytes, size_t n) {
    exo_frame f = {.flags = EXO_FRAME_JSON, .header = bytes, .header_bytes = (uint32_t)n};
    json_t *j;
    if (exo_frame_json(&f, &j, NULL) != EXO_OK) return;
    switch (kind) {
    case 'e': fuzz_event(j); break;
    case 'i': fuzz_instance(j); break;
    default: fuzz_request(j); break;
    }
    json_decref(j);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    if (n < 1) return 0;
    char kind = (char)bytes[0];
    switch (kind) {
    case 's': fuzz_step(bytes + 1, n - 1); break;
    case 'r': fuzz_results(bytes + 1, n - 1); break;
    case 'a': fuzz_admission(bytes + 1, n - 1); break;
    case 'm': fuzz_note(bytes + 1, n - 1); break;
    case 'e':
    case 'i':
    case 'q': fuzz_json(kind, bytes + 1, n - 1); break;
    default: break;
    }
    return 0;
}
