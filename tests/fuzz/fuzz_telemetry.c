/* fuzz_telemetry.c - a telemetry message from bytes: what is taken is written, and read again to
 * the same; what is refused is refused with a reason.  Then the same bytes as a record of a node.
 */
#include "cluster/score.h"
#include "cluster/topology.h"
#include "fuzz/target.h"
#include "node/record.h"

#include <stdlib.h>
#include <string.h>

/* Numbers come back as reals; all else, members of newer versions included, as it was. */
static void check_again(json_t *message, const json_t *payload) {
    CHECK(message != NULL);
    char *text = exo_telemetry_serialize_message(message);
    exo_telemetry_message again;
    exo_error err = {0};
    CHECK(text != NULL);
    if (strlen(text) <= EXO_TELEMETRY_MAX_BYTES) {
        CHECK(exo_telemetry_deserialize_message(text, strlen(text), &again, &err) == EXO_OK);
        CHECK(json_object_size(again.payload) >= json_object_size(payload));
        exo_telemetry_message_finish(&again);
    }
    free(text);
    json_decref(message);
}

static void check_metrics(const exo_gpu_metrics *m) {
    const exo_device_capabilities c = {.max_memory_bytes = 1 << 30};
    exo_device_score s = exo_score_device(m, &c);
    CHECK(s.score >= 0 && s.score <= 1);
}

/* What a node says of itself: once it was taken, nothing in it is taken amiss. */
static void judge_record(const uint8_t *bytes, size_t n) {
    static const char owner[] = "0123456789abcdef";
    exo_error err = {0};
    json_t *record = json_loadb((const char *)bytes, n, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(record)) {
        if (exo_record_check(record, owner, "fuzz", &err) == EXO_OK) {
            size_t left = json_object_size(json_object_get(record, "instances"));
            CHECK(exo_record_check(record, owner, "fuzz", &err) == EXO_OK);
            CHECK(json_object_size(json_object_get(record, "instances")) == left);
        } else {
            CHECK(err.message[0] != '\0');
        }
    }
    json_decref(record);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    exo_telemetry_message m;
    judge_record(bytes, n);
    exo_error err = {0};
    if (exo_telemetry_deserialize_message((const char *)bytes, n, &m, &err) != EXO_OK) {
        CHECK(err.message[0] != '\0' && m.payload == NULL);
        return 0;
    }
    exo_device_registration r;
    exo_heartbeat h;
    exo_gpu_metrics g;
    if (exo_telemetry_parse_registration(m.payload, &r, &err) == EXO_OK) {
        check_again(exo_telemetry_create_registration_message(&r), m.payload);
    }
    if (exo_telemetry_parse_heartbeat(m.payload, &h, &err) == EXO_OK) {
        if (h.has_metrics) check_metrics(&h.metrics);
        check_again(exo_telemetry_create_heartbeat_message(&h), m.payload);
    }
    if (exo_telemetry_parse_metrics(m.payload, &g, &err) == EXO_OK) {
        check_metrics(&g);
        check_again(exo_telemetry_create_metrics_message(&g), m.payload);
    }
    exo_link_metrics *links;
    size_t n_links;
    if (exo_telemetry_parse_topology(m.payload, &links, &n_links, &err) == EXO_OK) {
        check_again(exo_telemetry_create_topology_message(0, links, n_links), NULL);
        exo_topology_free(links, n_links);
    } else {
        CHECK(links == NULL);
    }
    exo_device_registration_finish(&r);
    exo_heartbeat_finish(&h);
    exo_gpu_metrics_finish(&g);
    exo_telemetry_message_finish(&m);
    return 0;
}
