/* fuzz_discovery.c - what strangers send to find us or to join.
 *
 * The first byte chooses; the rest is the input:
 *   'b' a beacon   't' a TXT record   'c' a join code as typed   'w' a welcome (JSON)
 * Beyond not crashing: what was understood is written again and must be understood the same, and
 * nothing without our key is believed. */
#define _DEFAULT_SOURCE
#include "fuzz/target.h"
#include "net/beacon_wire.h"
#include "net/invite.h"
#include "net/keyring.h"
#include "net/peers.h"
#include "net/txt.h"

#include <string.h>

static const exo_beacon_keys keys = {.tag = "fuzztag", .name_space = "spa", .mac = "fuzz mac key"};

static void note(const exo_beacon_msg *m, bool proven) {
    exo_peer_table *t = exo_peers_create();
    exo_sighting s = {.node_id = m->node_id,
                      .name = m->name,
                      .version = m->version,
                      .host = "10.0.0.1",
                      .interface = "",
                      .port = m->port,
                      .proven = proven,
                      .run = m->run,
                      .counter = m->counter};
    exo_peer_news news;
    CHECK(t != NULL);
    CHECK(exo_peers_note(t, &s, 1, &news) != NULL && exo_peers_count(t) == 1);
    exo_peers_destroy(t);
}

static void fuzz_beacon(const uint8_t *bytes, size_t n) {
    exo_beacon_msg m, again;
    exo_beacon_verdict verdict, second;
    exo_error err = {0};
    if (exo_beacon_read(bytes, n, &keys, &m, &verdict, &err) != EXO_OK) {
        CHECK(err.message[0] != '\0' && m.node_id[0] == '\0');
        return;
    }
    CHECK(n == EXO_BEACON_BYTES && verdict != EXO_BEACON_OURS);
    uint8_t written[EXO_BEACON_BYTES];
    CHECK(exo_beacon_write(&m, &keys, written, NULL) == EXO_OK);
    CHECK(exo_beacon_read(written, sizeof written, &keys, &again, &second, NULL) == EXO_OK);
    CHECK(second == EXO_BEACON_OURS && strcmp(m.name, again.name) == 0 &&
          m.counter == again.counter && strcmp(m.node_id, again.node_id) == 0);
    note(&m, false);
}

static void fuzz_txt(const uint8_t *bytes, size_t n) {
    exo_txt t, again;
    exo_error err = {0};
    if (exo_txt_read(bytes, n, &t, &err) != EXO_OK) {
        CHECK(err.message[0] != '\0' && t.id[0] == '\0');
        return;
    }
    uint8_t written[EXO_TXT_BYTES];
    CHECK(strlen(t.id) == EXO_NODE_ID_BYTES - 1);
    if (t.cluster[0] == '\0') return; /* written records have one */
    size_t k = exo_txt_write(&t, written);
    CHECK(exo_txt_read(written, k, &again, NULL) == EXO_OK);
    CHECK(strcmp(t.id, again.id) == 0 && strcmp(t.gpu_name, again.gpu_name) == 0 &&
          t.max_memory == again.max_memory && t.port == again.port);
}

/* Codes cost 50 ms each when they are whole: only broken ones are worth the time. */
static void fuzz_code(const uint8_t *bytes, size_t n) {
    char text[512];
    exo_invite i;
    exo_error err = {0};
    if (n >= sizeof text) return;
    memcpy(text, bytes, n);
    text[n] = '\0';
    exo_status st = exo_code_read(text, &i, &err);
    CHECK(st == EXO_OK ? strlen(i.id) == 8 : st == EXO_EINVAL && err.message[0] != '\0');
}

static void fuzz_welcome(const uint8_t *bytes, size_t n) {
    json_t *m = json_loadb((const char *)bytes, n, JSON_REJECT_DUPLICATES, NULL);
    if (m == NULL) return;
    exo_keyring k = {.removed = json_object()};
    exo_error err = {0};
    exo_status st = exo_keyring_welcome(&k, m, &err);
    CHECK(st == EXO_OK ? strlen(k.stored_key) >= 10 && k.joined : err.message[0] != '\0');
    CHECK(json_object_size(k.removed) <= EXO_MAX_REMOVED);
    exo_keyring_finish(&k);
    json_decref(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    if (n == 0) return 0;
    switch (bytes[0]) {
    case 'b': fuzz_beacon(bytes + 1, n - 1); break;
    case 't': fuzz_txt(bytes + 1, n - 1); break;
    case 'c': fuzz_code(bytes + 1, n - 1); break;
    case 'w': fuzz_welcome(bytes + 1, n - 1); break;
    default: break;
    }
    return 0;
}
