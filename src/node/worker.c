/* worker.c - the COMPUTE thread of one stage; see worker.h.
 *
 * Life: load, report, wait for lanes, turns (coordinator or follower), end.  After a failure the
 * thread stays to answer late submissions with the reason until it is destroyed. */
#define _DEFAULT_SOURCE
#include "node/worker.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mailbox.h"
#include "base/mem.h"
#include "node/coordinator.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

typedef enum { MSG_CONNECT, MSG_SUBMIT, MSG_CANCEL } worker_msg_kind;

typedef struct {
    exo_msg msg;
    worker_msg_kind kind;
    exo_lane *prev, *next;    /* connect */
    exo_worker_common common; /* connect */
    uint64_t id;              /* submit, cancel */
    exo_request request;      /* submit */
    exo_node_event_fn fn;     /* submit */
    void *ud;
} worker_msg;

struct exo_worker {
    exo_worker_desc d; /* model is referenced; device copied */
    char device_id[32];
    char stop_reason[EXO_ERROR_BYTES]; /* set before stop */
    atomic_bool stop;
    pthread_t thread;
    exo_mailbox *mailbox;
    exo_lane_set *wait;
    exo_stage_counters counters;
    /* COMPUTE only from here */
    exo_stage_io io;
    exo_coordinator *coordinator;
    bool connected;
    bool moving;        /* a follower's shard is being made on the CPU */
    bool awaits_reread; /* it has moved: what comes until the coordinator knows is stale */
    exo_error upstream; /* what the lane said meanwhile */
    exo_error failure;  /* status EXO_OK while all is well */
};

/* ---- loading ---- */

static exo_status follow_note(exo_worker *w, const exo_frame *f, exo_error *err);

/* While a follower loads, the stages before it go on sending until they know: it takes what comes,
 * so that they do not wait for it, and passes on only news. */
static exo_status drain(exo_worker *w) {
    exo_frame f;
    bool have = true;
    while (have && w->upstream.status == EXO_OK) {
        exo_status st = exo_stage_io_recv(&w->io, &f, &have, &w->upstream);
        if (st == EXO_OK && have && f.type == EXO_MSG_DEVICE) follow_note(w, &f, &w->upstream);
    }
    return w->upstream.status;
}

static bool load_progress(void *ud, uint64_t done, uint64_t total) {
    exo_worker *w = ud;
    (void)done;
    (void)total;
    return !atomic_load(&w->stop) && (!w->moving || drain(w) == EXO_OK);
}

static exo_status load(exo_worker *w, exo_error *err) {
    const exo_seat_desc seat = {.device = w->device_id,
                                .backend = w->d.backend,
                                .n_threads = w->d.n_threads,
                                .model = w->d.model,
                                .shard = w->d.shard,
                                .progress = load_progress,
                                .ud = w};
    exo_shard *shard = NULL;
    exo_stage *stage = NULL;
    exo_status st = exo_seat_open(&w->io.seat, &seat, &shard, err);
    if (st != EXO_OK) return st;
    st = exo_stage_create(shard, &stage, err);
    if (st != EXO_OK) return st;
    return exo_stage_io_init(&w->io, stage, exo_model_hparams(w->d.model)->n_embd, err);
}

static void report(exo_worker *w, exo_worker_event event) {
    exo_worker_report r = {.event = event};
    const exo_shard *shard = w->io.stage != NULL ? exo_stage_shard(w->io.stage) : NULL;
    memcpy(r.device_id, w->io.seat.device_id, sizeof r.device_id);
    memcpy(r.reason, w->io.seat.reason, sizeof r.reason);
    if (shard != NULL) {
        r.weight_bytes = exo_shard_weight_bytes(shard);
        r.kv_bytes = exo_shard_kv_bytes(shard);
        r.n_pages = exo_shard_get_desc(shard)->n_pages;
        r.has_classes = exo_shard_has_classes(shard);
    }
    if (event == EXO_WORKER_FAILED) {
        snprintf(r.message, sizeof r.message, "%s", w->failure.message);
    }
    w->d.report(w->d.ud, &r);
}

static void report_moved(void *ud) { report(ud, EXO_WORKER_MOVED); }

static void fail(exo_worker *w, exo_error *err) {
    if (err->status == EXO_EPEER) exo_stage_io_hear_reason(&w->io, err);
    w->failure = *err;
    if (w->failure.status == EXO_OK) w->failure.status = EXO_EINTERNAL;
    if (w->coordinator != NULL) exo_coordinator_fail(w->coordinator, EXO_EPEER, err->message);
    exo_stage_io_send_fail(&w->io, err->message);
    exo_lane_destroy(w->io.prev);
    exo_lane_destroy(w->io.next);
    w->io.prev = w->io.next = NULL;
    report(w, EXO_WORKER_FAILED);
}

/* ---- messages from other threads ---- */

static void connect_lanes(exo_worker *w, worker_msg *m) {
    exo_error err = {0};
    if (w->failure.status != EXO_OK || w->connected) {
        exo_lane_destroy(m->prev);
        exo_lane_destroy(m->next);
        return;
    }
    w->io.prev = m->prev;
    w->io.next = m->next;
    if (m->next != NULL) exo_lane_set_stop(m->next, &w->stop); /* LOOP waits for us to end */
    w->connected = true;
    if (w->d.stage == 0) {
        exo_coordinator_desc cd = {.io = &w->io,
                                   .tokenizer = exo_model_tokenizer(w->d.model),
                                   .n_stages = w->d.n_stages,
                                   .n_pages = m->common.n_pages,
                                   .has_classes = m->common.has_classes,
                                   .chunk_tokens = w->d.chunk_tokens,
                                   .moved = report_moved,
                                   .ud = w};
        if (exo_coordinator_create(&cd, &w->coordinator, &err) != EXO_OK) {
            fail(w, &err);
            return;
        }
    }
    report(w, EXO_WORKER_READY);
}

static void handle(exo_worker *w, worker_msg *m) {
    switch (m->kind) {
    case MSG_CONNECT: connect_lanes(w, m); break;
    case MSG_SUBMIT:
        if (w->coordinator != NULL && w->failure.status == EXO_OK) {
            exo_coordinator_submit(w->coordinator, m->id, &m->request, m->fn, m->ud);
        } else {
            const char *why =
                w->failure.status != EXO_OK ? w->failure.message : "the instance is not ready";
            m->fn(m->ud, &(exo_node_event){.status = EXO_EPEER, .message = why});
        }
        break;
    case MSG_CANCEL:
        if (w->coordinator != NULL) exo_coordinator_cancel(w->coordinator, m->id);
        break;
    }
    exo_request_finish(&m->request);
    exo_free(m);
}

static void handle_messages(exo_worker *w) {
    for (exo_msg *msg = exo_mailbox_take(w->mailbox), *next; msg != NULL; msg = next) {
        next = msg->next;
        handle(w, (worker_msg *)msg);
    }
}

/* ---- a follower's turn: every stage but the first ---- */

static exo_status follow_admit(exo_worker *w, const exo_frame *f, exo_error *err) {
    exo_request request;
    exo_tokens history;
    uint32_t seq;
    exo_status st = exo_admit_decode(f, &seq, &request, &history, err);
    if (st != EXO_OK) return st;
    st = exo_stage_admit(w->io.stage, seq, &request, history, err);
    if (st == EXO_OK && w->d.stage + 1 < w->d.n_stages) {
        st = exo_stage_io_send_admit(&w->io, seq, &request, history, err);
    }
    exo_request_finish(&request);
    exo_free((void *)history.ids);
    return st;
}

static exo_status follow_note(exo_worker *w, const exo_frame *f, exo_error *err) {
    exo_move_note note;
    exo_status st = exo_move_note_decode(f, &note, err);
    if (st != EXO_OK) return st;
    bool reread = note.op == EXO_MOVE_REREAD, last = w->d.stage + 1 == w->d.n_stages;
    if (reread && !w->moving) w->awaits_reread = false;
    return reread && last ? EXO_OK : exo_stage_io_send_note(&w->io, &note, err);
}

/* The device failed at a step: the CPU takes its place, and the coordinator hears of it first, so
 * that it waits for as long as loading takes. */
static exo_status follow_move(exo_worker *w, const char *why, exo_error *err) {
    exo_move_note note = {.op = EXO_MOVE_MOVING, .stage = w->d.stage};
    snprintf(note.reason, sizeof note.reason, "%s", why);
    snprintf(note.device_id, sizeof note.device_id, "%s", w->io.seat.device_id);
    exo_status st = exo_stage_io_send_note(&w->io, &note, err);
    if (st != EXO_OK) return st;
    w->moving = w->awaits_reread = true;
    st = exo_stage_io_move(&w->io, why, err);
    w->moving = false;
    if (w->upstream.status != EXO_OK) { /* why loading was stopped */
        *err = w->upstream;
        return err->status;
    }
    if (st != EXO_OK) return st;
    report(w, EXO_WORKER_MOVED);
    note.op = EXO_MOVE_MOVED;
    memcpy(note.device_id, w->io.seat.device_id, sizeof note.device_id);
    memcpy(note.reason, w->io.seat.reason, sizeof note.reason);
    return exo_stage_io_send_note(&w->io, &note, err);
}

static exo_status follow(exo_worker *w, uint64_t *deadline_us, exo_error *err) {
    exo_frame f;
    bool have;
    *deadline_us = UINT64_MAX;
    exo_status st = exo_stage_io_recv(&w->io, &f, &have, err);
    if (st != EXO_OK || !have) return st;
    *deadline_us = 0;
    if (f.type == EXO_MSG_DEVICE) return follow_note(w, &f, err);
    if (w->awaits_reread) return EXO_OK;
    if (f.type == EXO_MSG_ADMIT) return follow_admit(w, &f, err);
    if (f.type != EXO_MSG_STEP) return EXO_OK; /* unknown types are skipped */
    st = exo_stage_io_take_step(&w->io, &f, err);
    if (st != EXO_OK) return st;
    exo_error why = {0};
    st = exo_stage_io_run(&w->io, &w->io.step, &why);
    if (exo_seat_can_move(&w->io.seat, st)) return follow_move(w, why.message, err);
    if (st != EXO_OK) {
        *err = why;
        return st;
    }
    if (w->d.stage + 1 < w->d.n_stages) return exo_stage_io_send_step(&w->io, &w->io.step, err);
    return exo_stage_io_send_results(&w->io, w->io.step.number, err);
}

/* ---- the thread ---- */

static void *worker_main(void *arg) {
    exo_worker *w = arg;
    exo_error err = {0};
    if (load(w, &err) == EXO_OK) {
        report(w, EXO_WORKER_LOADED);
    } else {
        fail(w, &err);
    }
    while (!atomic_load(&w->stop)) {
        uint64_t deadline_us = UINT64_MAX;
        handle_messages(w);
        if (w->connected && w->failure.status == EXO_OK) {
            exo_status st = w->coordinator != NULL
                                ? exo_coordinator_turn(w->coordinator, &deadline_us, &err)
                                : follow(w, &deadline_us, &err);
            if (st != EXO_OK && !atomic_load(&w->stop)) fail(w, &err);
        }
        if (deadline_us > exo_now_us()) exo_stage_io_wait(&w->io, deadline_us);
    }
    exo_error_set(&w->failure, EXO_EPEER, "%s", w->stop_reason);
    handle_messages(w);
    if (w->coordinator != NULL) {
        exo_coordinator_fail(w->coordinator, EXO_EPEER, w->stop_reason);
        exo_coordinator_destroy(w->coordinator);
    }
    exo_stage_io_send_fail(&w->io, w->stop_reason);
    exo_stage_io_finish(&w->io);
    return NULL;
}

static void wake(void *ud) { exo_lane_wake(((exo_worker *)ud)->wait); }

static void free_worker(exo_worker *w) {
    exo_mailbox_destroy(w->mailbox);
    exo_lane_set_destroy(w->wait);
    exo_model_unref(w->d.model);
    exo_free(w);
}

exo_status exo_worker_create(const exo_worker_desc *d, exo_worker **out, exo_error *err) {
    *out = NULL;
    exo_worker *w = exo_calloc(1, sizeof *w);
    if (w == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a stage");
    w->d = *d;
    w->d.model = exo_model_ref(d->model);
    snprintf(w->device_id, sizeof w->device_id, "%s", d->device);
    exo_status st = exo_lane_set_create(&w->wait, err);
    if (st == EXO_OK) st = exo_mailbox_create(wake, w, &w->mailbox, err);
    if (st != EXO_OK) goto fail;
    w->io = (exo_stage_io){
        .wait = w->wait, .stop = &w->stop, .counters = &w->counters, .epoch = d->epoch};
    if (pthread_create(&w->thread, NULL, worker_main, w) != 0) {
        st = exo_error_set(err, EXO_EIO, "cannot start a thread for a stage");
        goto fail;
    }
    *out = w;
    return EXO_OK;
fail:
    free_worker(w);
    return st;
}

static exo_status post(exo_worker *w, const worker_msg *m, exo_error *err) {
    worker_msg *copy = exo_malloc(sizeof *copy);
    if (copy == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a message");
    *copy = *m;
    exo_mailbox_push(w->mailbox, &copy->msg);
    return EXO_OK;
}

void exo_worker_connect(exo_worker *w, exo_lane *prev_take, exo_lane *next_take,
                        exo_worker_common common) {
    worker_msg m = {.kind = MSG_CONNECT, .prev = prev_take, .next = next_take, .common = common};
    if (post(w, &m, NULL) == EXO_OK) return;
    exo_lane_destroy(prev_take);
    exo_lane_destroy(next_take);
}

exo_status exo_worker_submit(exo_worker *w, uint64_t id, const exo_request *r, exo_node_event_fn fn,
                             void *ud, exo_error *err) {
    worker_msg m = {.kind = MSG_SUBMIT, .id = id, .fn = fn, .ud = ud};
    exo_status st = exo_request_dup(r, &m.request, err);
    if (st != EXO_OK) return st;
    st = post(w, &m, err);
    if (st != EXO_OK) exo_request_finish(&m.request);
    return st;
}

void exo_worker_cancel(exo_worker *w, uint64_t id) {
    worker_msg m = {.kind = MSG_CANCEL, .id = id};
    if (post(w, &m, NULL) != EXO_OK) exo_warn("out of memory: a cancelled answer runs on");
}

void exo_worker_destroy(exo_worker *w, const char *reason) {
    if (w == NULL) return;
    snprintf(w->stop_reason, sizeof w->stop_reason, "%s", reason);
    atomic_store(&w->stop, true);
    exo_lane_wake(w->wait);
    pthread_join(w->thread, NULL);
    free_worker(w);
}

void exo_worker_get_stats(const exo_worker *w, exo_worker_stats *out) {
    const exo_stage_counters *c = &w->counters;
    *out = (exo_worker_stats){.steps = atomic_load(&c->steps),
                              .rows = atomic_load(&c->rows),
                              .tokens = atomic_load(&c->tokens),
                              .busy_us = atomic_load(&c->busy_us),
                              .decode_steps = atomic_load(&c->decode_steps),
                              .decode_us = atomic_load(&c->decode_us),
                              .bytes_sent = atomic_load(&c->bytes_sent),
                              .bytes_received = atomic_load(&c->bytes_received),
                              .pages_used = atomic_load(&c->pages_used),
                              .pages_total = atomic_load(&c->pages_total)};
}
