/* downloads.c - models that this node fetches because the cluster's log says so.
 *
 * That a download was asked for, is there, or failed, are events; how far it is, is telemetry (in
 * the node's record).  So a power cut costs the last seconds of a download, and all nodes know
 * of it.  What may pass by itself (no network, a full disk, a hub that is busy) is tried again,
 * with growing pauses, for as long as somebody wants the model; what will not is an event.
 *
 * Each running download has a thread of its own, which blocks in exo_pull and talks to LOOP by
 * one message at its end.  Thread: LOOP, but for what is marked. */
#define _DEFAULT_SOURCE
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/hello.h"
#include "node/node_impl.h"
#include "node/pull.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define AT_ONCE        2 /* more would only share the line */
#define RETRY_FIRST_MS 2000u
#define RETRY_MAX_MS   300000u
#define MAX_CHANGED    3     /* tries on a file that is another one at every look */
#define TELL_MS        1000u /* between words to peers about progress */
#define FILE_BYTES     96    /* of a name that is shown */

typedef struct {
    exo_download_phase phase;
    char file[FILE_BYTES];
    uint64_t done, total;
} progress;

typedef struct job {
    exo_loop_call ended; /* first member: the thread's last word */
    struct job *next;
    exo_node *node;
    char what[EXO_CLUSTER_MODEL_BYTES];
    pthread_t thread;
    atomic_bool stop;
    exo_lock *lock; /* of at */
    progress at;
    bool running;  /* the thread is there */
    bool reported; /* its end is in the log, or on its way */
    uint64_t again_ms;
    uint32_t wait_ms, n_changed;
    exo_status status; /* the thread's, read once it has ended */
    exo_error err;
    exo_pull_result result;
} job;

struct exo_downloads {
    job *jobs;
    uint64_t told_ms;
};

static uint64_t own_number(const exo_node *n) { return exo_node_number(exo_node_id(n)); }

/* ---- the thread ---- */

static bool on_progress(void *ud, const exo_pull_status *s) {
    job *j = ud;
    exo_lock_take(j->lock);
    j->at.phase = s->phase;
    j->at.done = s->phase == EXO_DOWNLOAD_CHECKING ? s->file_done : s->done;
    j->at.total = s->phase == EXO_DOWNLOAD_CHECKING || s->total == 0 ? s->file_total : s->total;
    snprintf(j->at.file, sizeof j->at.file, "%s", s->file);
    exo_lock_give(j->lock);
    return !atomic_load(&j->stop);
}

static void *fetch(void *ud) {
    job *j = ud;
    exo_pull_desc d = {.data_dir = j->node->data_dir, .progress = on_progress, .ud = j};
    j->err = (exo_error){0};
    j->status = exo_pull(j->what, &d, &j->result, &j->err);
    exo_node_post(j->node, &j->ended);
    return NULL;
}

/* ---- ends ---- */

static void propose_end(job *j, exo_event_type type) {
    exo_event e = {.type = type, .node = own_number(j->node)};
    memcpy(e.model_id, j->what, sizeof e.model_id);
    if (type == EXO_EVENT_DOWNLOAD_FAILED) {
        exo_hello_text(j->err.message[0] != '\0' ? j->err.message : "unknown", e.reason,
                       sizeof e.reason);
    }
    j->reported = true;
    exo_consensus_propose(j->node, &e, NULL, NULL);
}

/* Trying again may help, without anybody doing something about it here. */
static bool may_pass(job *j) {
    switch (j->status) {
    case EXO_EIO:
    case EXO_ENOMEM:
    case EXO_ETIMEDOUT:
    case EXO_EBUSY: return true;
    case EXO_EPEER: return ++j->n_changed < MAX_CHANGED;
    default: return false;
    }
}

static void on_ended(exo_node *n, exo_loop_call *call) {
    job *j = (job *)call;
    if (!j->running) return; /* joined already: the node stops */
    pthread_join(j->thread, NULL);
    j->running = false;
    if (n->stopping || j->status == EXO_ECANCELED) return;
    n->record_changed = true;
    if (j->status == EXO_OK) {
        exo_info("download of %s: %s is here (%.1f MB)", j->what, j->result.id,
                 (double)j->result.bytes / 1e6);
        propose_end(j, EXO_EVENT_DOWNLOAD_ENDED);
    } else if (may_pass(j)) {
        j->wait_ms = j->wait_ms == 0 ? RETRY_FIRST_MS : j->wait_ms * 2;
        if (j->wait_ms > RETRY_MAX_MS) j->wait_ms = RETRY_MAX_MS;
        j->again_ms = exo_now_ms() + j->wait_ms;
        exo_warn("download of %s waits %u s: %s", j->what, j->wait_ms / 1000, j->err.message);
    } else {
        exo_warn("download of %s failed: %s", j->what, j->err.message);
        propose_end(j, EXO_EVENT_DOWNLOAD_FAILED);
    }
}

/* ---- what the log says, carried out ---- */

static job *find_job(const exo_node *n, const char *what) {
    job *j = n->downloads->jobs;
    while (j != NULL && strcmp(j->what, what) != 0) j = j->next;
    return j;
}

static void add_job(exo_node *n, const char *what) {
    job *j = exo_calloc(1, sizeof *j);
    if (j == NULL || exo_lock_create(&j->lock, NULL) != EXO_OK) {
        exo_free(j); /* the next tick tries again */
        return;
    }
    j->ended.run = on_ended;
    j->node = n;
    snprintf(j->what, sizeof j->what, "%s", what);
    job **at = &n->downloads->jobs;
    while (*at != NULL) at = &(*at)->next;
    *at = j;
}

static void free_job(job *j) {
    exo_lock_destroy(j->lock);
    exo_free(j);
}

/* Jobs that nobody wants any more stop, and go once their thread has ended. */
static void drop_unwanted(exo_node *n) {
    const exo_state *s = exo_consensus_state(n);
    for (job **at = &n->downloads->jobs, *j; (j = *at) != NULL;) {
        const exo_state_download *d = exo_state_download_of(s, own_number(n), j->what);
        bool wanted = d != NULL && d->reason[0] == '\0';
        if (!wanted) atomic_store(&j->stop, true);
        if (wanted || j->running) {
            at = &j->next;
            continue;
        }
        *at = j->next;
        free_job(j);
        n->record_changed = true;
    }
}

static void start_some(exo_node *n, uint64_t now_ms) {
    unsigned running = 0;
    for (const job *j = n->downloads->jobs; j != NULL; j = j->next) running += j->running;
    for (job *j = n->downloads->jobs; j != NULL && running < AT_ONCE; j = j->next) {
        if (j->running || j->reported || now_ms < j->again_ms) continue;
        atomic_store(&j->stop, false);
        if (pthread_create(&j->thread, NULL, fetch, j) != 0) {
            j->again_ms = now_ms + RETRY_FIRST_MS;
            continue;
        }
        j->running = true;
        running++;
        n->record_changed = true;
    }
}

void exo_downloads_tick(exo_node *n, uint64_t now_ms) {
    const exo_state *s = exo_consensus_state(n);
    if (n->stopping) return;
    drop_unwanted(n);
    for (size_t i = 0; i < s->n_downloads; i++) {
        const exo_state_download *d = &s->downloads[i];
        if (d->node != own_number(n) || d->reason[0] != '\0') continue;
        if (find_job(n, d->what) == NULL) add_job(n, d->what);
    }
    start_some(n, now_ms);
    if (n->downloads->jobs == NULL || now_ms - n->downloads->told_ms < TELL_MS) return;
    n->downloads->told_ms = now_ms;
    n->record_changed = true;
}

/* ---- what is shown ---- */

static const char *status_of(const job *j, const progress *at) {
    if (!j->running) return j->again_ms != 0 ? "waiting" : "queued";
    if (at->file[0] == '\0') return "asking";
    return at->phase == EXO_DOWNLOAD_CHECKING  ? "checking"
           : at->phase == EXO_DOWNLOAD_WAITING ? "waiting"
                                               : "downloading";
}

json_t *exo_downloads_record(const exo_node *n) {
    json_t *all = json_object();
    for (job *j = n->downloads->jobs; j != NULL && all != NULL; j = j->next) {
        if (j->reported) continue;
        exo_lock_take(j->lock);
        progress at = j->at;
        exo_lock_give(j->lock);
        bool failed = !j->running && j->err.message[0] != '\0';
        json_object_set_new(all, j->what,
                            json_pack("{s:s, s:s, s:I, s:I, s:s?}", "status", status_of(j, &at),
                                      "file", at.file, "done_bytes", (json_int_t)at.done,
                                      "total_bytes", (json_int_t)at.total, "reason",
                                      failed ? j->err.message : NULL));
    }
    return all;
}

/* As its node says, when it is here and says something. */
static json_t *shown(const exo_state_download *d, const json_t *records) {
    if (d->reason[0] != '\0')
        return json_pack("{s:s, s:s}", "status", "failed", "reason", d->reason);
    char id[EXO_NODE_ID_BYTES];
    exo_node_number_id(d->node, id);
    json_t *told = json_object_get(json_object_get(records, id), d->what);
    if (json_is_object(told)) return json_incref(told);
    return json_pack("{s:s, s:n}", "status",
                     json_object_get(records, id) != NULL ? "queued" : "away", "reason");
}

json_t *exo_downloads_json(const exo_node *n, const json_t *records) {
    const exo_state *s = exo_consensus_state(n);
    json_t *all = json_object();
    for (size_t i = 0; i < s->n_downloads && all != NULL; i++) {
        char id[EXO_NODE_ID_BYTES];
        exo_node_number_id(s->downloads[i].node, id);
        json_t *of_node = json_object_get(all, id);
        if (of_node == NULL) {
            of_node = json_object();
            json_object_set_new(all, id, of_node);
        }
        json_object_set_new(of_node, s->downloads[i].what, shown(&s->downloads[i], records));
    }
    return all;
}

/* ---- life ---- */

exo_status exo_downloads_create(exo_node *n, exo_error *err) {
    n->downloads = exo_calloc(1, sizeof *n->downloads);
    return n->downloads != NULL ? EXO_OK
                                : exo_error_set(err, EXO_ENOMEM, "no memory for downloads");
}

void exo_downloads_stop(exo_node *n) {
    if (n->downloads == NULL) return;
    for (job *j = n->downloads->jobs; j != NULL; j = j->next) atomic_store(&j->stop, true);
    for (job *j = n->downloads->jobs; j != NULL; j = j->next) {
        if (j->running) pthread_join(j->thread, NULL);
        j->running = false;
    }
}

void exo_downloads_finish(exo_node *n) {
    if (n->downloads == NULL) return;
    for (job *j = n->downloads->jobs, *next; j != NULL; j = next) {
        next = j->next;
        free_job(j);
    }
    exo_free(n->downloads);
}
