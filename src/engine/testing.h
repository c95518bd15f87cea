/* testing.h - what the tests of this folder share: random models, devices, chains of shards.
 *
 * Everything here is the real thing; a chain is several shards in one process whose activations
 * are passed by memory, as a pipeline passes them by wire.  Include after cmocka.h; only tests
 * include it. */
#ifndef EXO_ENGINE_TESTING_H
#define EXO_ENGINE_TESTING_H

#include "engine/shard.h"
#include "model/synth.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MAX_CHAIN 3

static inline void check(exo_status st, const exo_error *err) {
    if (st != EXO_OK) fail_msg("%s: %s", exo_status_name(st), err->message);
}

/* A small random model; the file is gone from the folder before the test goes on. */
static inline exo_model *synth_model_from(const exo_synth_desc *desc) {
    exo_error err = {0};
    char path[] = "/tmp/exo-test-XXXXXX.gguf";
    int fd = mkstemps(path, 5);
    assert_true(fd >= 0);
    close(fd);
    exo_model *m = NULL;
    exo_status st = exo_synth_write(desc, path, NULL, NULL, &err);
    if (st == EXO_OK) st = exo_model_open(path, &m, &err);
    unlink(path);
    check(st, &err);
    return m;
}

/* n_layers: 0 = all of the shape */
static inline exo_model *synth_model_of(const char *shape, const char *type, uint32_t n_layers) {
    return synth_model_from(
        &(exo_synth_desc){.shape = shape, .type = type, .seed = 7, .n_layers = n_layers});
}

static inline exo_model *synth_model(const char *shape, const char *type) {
    return synth_model_of(shape, type, 0);
}

/* A model of the shared test data; the test is skipped where there is none. */
static inline exo_model *data_model(const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", EXO_SHARED_DATA, name);
    if (access(path, R_OK) != 0) {
        print_message("skipped: %s is not there\n", path);
        skip();
    }
    exo_error err = {0};
    exo_model *m = NULL;
    check(exo_model_open(path, &m, &err), &err);
    return m;
}

typedef struct {
    const exo_backend *backend;
    exo_device *device;
    exo_shard *shards[MAX_CHAIN];
    uint32_t n;
    float *x[MAX_CHAIN]; /* (max_rows, n_embd) what shard i hands on */
} chain;

/* Layers cut before each of cuts[] (0 = no cut); false when this machine lacks the isa. */
static inline bool chain_open(chain *c, exo_model *m, const exo_device_desc *device,
                              const uint32_t cuts[MAX_CHAIN - 1], exo_shard_desc desc) {
    exo_error err = {0};
    *c = (chain){0};
    exo_status st = exo_device_open("cpu:0", device, &c->backend, &c->device, &err);
    if (st == EXO_EUNSUPPORTED || (st == EXO_EINVAL && device->isa != NULL)) return false;
    check(st, &err);
    const exo_hparams *h = exo_model_hparams(m);
    uint32_t ends[MAX_CHAIN];
    for (uint32_t i = 0; i < MAX_CHAIN - 1; i++) {
        if (cuts[i] != 0) ends[c->n++] = cuts[i];
    }
    ends[c->n++] = h->n_layers;
    for (uint32_t i = 0, begin = 0; i < c->n; begin = ends[i++]) {
        desc.layer_begin = begin;
        desc.layer_end = ends[i];
        desc.has_embedding = i == 0;
        desc.has_head = i == c->n - 1;
        check(exo_shard_create(m, c->backend, c->device, &desc, NULL, NULL, &c->shards[i], &err),
              &err);
        c->x[i] = calloc((size_t)exo_shard_get_desc(c->shards[i])->max_rows * h->n_embd, 4);
        assert_non_null(c->x[i]);
    }
    return true;
}

static inline void chain_close(chain *c) {
    for (uint32_t i = 0; i < c->n; i++) {
        exo_shard_destroy(c->shards[i]);
        free(c->x[i]);
    }
    if (c->device != NULL) c->backend->close(c->device);
}

/* ---- a device that fails ---- */

static exo_backend flaky;        /* the CPU under another table */
static atomic_int flaky_steps;   /* until its steps fail */
static atomic_int flaky_n_opens; /* devices opened so far */

static inline exo_status flaky_run(exo_plan *p, const exo_plan_args *args, exo_error *err) {
    if (atomic_fetch_sub(&flaky_steps, 1) <= 0) {
        return exo_error_set(err, EXO_EIO, "flaky:0 is lost");
    }
    return exo_backend_cpu.plan_run(p, args, err);
}

static inline exo_status flaky_open(uint32_t index, const exo_device_desc *desc, exo_device **out,
                                    exo_error *err) {
    atomic_fetch_add(&flaky_n_opens, 1);
    return exo_backend_cpu.open(index, desc, out, err);
}

/* A backend that computes as the CPU does and loses its devices after so many steps. */
static inline const exo_backend *flaky_backend(int steps) {
    flaky = exo_backend_cpu;
    flaky.name = "flaky";
    flaky.open = flaky_open;
    flaky.plan_run = flaky_run;
    atomic_store(&flaky_steps, steps);
    return &flaky;
}

static inline exo_shard *chain_last(const chain *c) { return c->shards[c->n - 1]; }

static inline void chain_run(const chain *c, const exo_step *step) {
    exo_error err = {0};
    for (uint32_t i = 0; i < c->n; i++) {
        check(exo_shard_run(c->shards[i], step, i > 0 ? c->x[i - 1] : NULL, c->x[i], NULL, &err),
              &err);
    }
}

/* Page of (seq, index) in a pool of n_pages: neighbours lie far apart, no page is met twice.
 * n_pages is no multiple of 37 and seq_pages * max_seqs <= n_pages. */
static inline exo_page_entry scattered_page(uint32_t seq, uint32_t index, uint32_t seq_pages,
                                            uint32_t n_pages) {
    return (exo_page_entry){seq, index, (seq * seq_pages + index) * 37 % n_pages};
}

/* A token anybody could have said at (seq, pos): fixed, and spread over the vocabulary. */
static inline int32_t made_up_token(uint32_t seq, uint32_t pos, uint32_t n_vocab) {
    uint32_t x = (seq + 1) * 2654435761u ^ pos * 40503u;
    x ^= x >> 15, x *= 2246822519u, x ^= x >> 13;
    return (int32_t)(x % n_vocab);
}

static inline int32_t arg_max(const float *logits, uint32_t n) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++) best = logits[i] > logits[best] ? i : best;
    return (int32_t)best;
}

#endif
