/* listen_lan.c - a beacon that only asks, on a loop of its own, into a peer table. */
#define _DEFAULT_SOURCE
#include "node/listen_lan.h"

#include "node/discover_impl.h"

#include "base/clock.h"
#include "base/mem.h"

#define QUERY_MS 500u

typedef struct {
    uv_loop_t loop;
    uv_timer_t timer;
    exo_beacon *beacon;
    exo_node node; /* what discover_json.c reads: no peers, no links */
    exo_discover discover;
    uint64_t end_ms;
} listener;

static void on_heard(void *ud, const exo_beacon_heard *h) {
    listener *l = ud;
    exo_peer_news news;
    exo_sighting s = exo_discover_sighting(&l->node, h);
    exo_peers_note(l->discover.peers, &s, exo_now_ms(), &news);
}

static void on_timer(uv_timer_t *t) {
    listener *l = t->data;
    if (exo_now_ms() < l->end_ms) {
        exo_beacon_query(l->beacon);
        return;
    }
    uv_stop(&l->loop);
}

static exo_status listen_for(listener *l, uint32_t ms, json_t **out, exo_error *err) {
    exo_beacon_desc bd = {
        .loop = &l->loop, .quiet = true, .keys = l->discover.keys, .on_heard = on_heard, .ud = l};
    exo_status st = uv_random(NULL, NULL, &bd.self.run, sizeof bd.self.run, 0, NULL) == 0
                        ? exo_beacon_create(&bd, &l->beacon, err)
                        : exo_error_set(err, EXO_EIO, "no random bytes");
    if (st == EXO_OK) {
        l->end_ms = exo_now_ms() + ms;
        uv_timer_start(&l->timer, on_timer, 0, QUERY_MS);
        uv_run(&l->loop, UV_RUN_DEFAULT);
        l->discover.beacon = l->beacon;
        *out = exo_discover_json(&l->node);
        exo_beacon_close(l->beacon, NULL, NULL);
    }
    uv_close((uv_handle_t *)&l->timer, NULL);
    uv_run(&l->loop, UV_RUN_DEFAULT);
    return st;
}

exo_status exo_listen_lan(const char *data_dir, const exo_keyring *k, uint32_t listen_ms,
                          json_t **out, exo_error *err) {
    *out = NULL;
    listener *l = exo_calloc(1, sizeof *l);
    if (l == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory to listen");
    l->node.keyring = *k;
    l->node.discover = &l->discover;
    l->discover.node = &l->node;
    l->discover.peers = exo_peers_create();
    exo_status st = l->discover.peers != NULL ? EXO_OK : EXO_ENOMEM;
    if (st == EXO_OK) st = exo_identity_load(data_dir, &l->node.identity, err);
    if (st == EXO_OK) st = exo_tls_ctx_create(k->key, k->name_space, &l->node.tls, err);
    if (st == EXO_OK) {
        st = exo_beacon_keys_derive(l->node.tls, k->name_space, &l->discover.keys, err);
    }
    if (st == EXO_OK && uv_loop_init(&l->loop) != 0) {
        st = exo_error_set(err, EXO_EIO, "cannot make an event loop");
    } else if (st == EXO_OK) {
        uv_timer_init(&l->loop, &l->timer);
        l->timer.data = l;
        st = listen_for(l, listen_ms, out, err);
        uv_loop_close(&l->loop);
    }
    exo_peers_destroy(l->discover.peers);
    exo_tls_ctx_destroy(l->node.tls);
    exo_identity_destroy(l->node.identity);
    exo_free(l);
    return st;
}
