/* mailbox.c - see mailbox.h. */
#define _POSIX_C_SOURCE 200809L
#include "base/mailbox.h"

#include "base/assert.h"
#include "base/mem.h"

#include <pthread.h>
#include <time.h>

struct exo_mailbox {
    pthread_mutex_t lock;
    exo_msg *first, **last; /* guarded by lock */
    void (*wake)(void *ud);
    void *ud;
};

exo_status exo_mailbox_create(void (*wake)(void *ud), void *ud, exo_mailbox **out, exo_error *err) {
    *out = NULL;
    exo_mailbox *m = exo_calloc(1, sizeof *m);
    if (m == NULL || pthread_mutex_init(&m->lock, NULL) != 0) {
        exo_free(m);
        return exo_error_set(err, EXO_ENOMEM, "out of memory for a mailbox");
    }
    m->last = &m->first;
    m->wake = wake;
    m->ud = ud;
    *out = m;
    return EXO_OK;
}

void exo_mailbox_destroy(exo_mailbox *m) {
    if (m == NULL) return;
    EXO_ASSERT(m->first == NULL);
    pthread_mutex_destroy(&m->lock);
    exo_free(m);
}

void exo_mailbox_push(exo_mailbox *m, exo_msg *msg) {
    msg->next = NULL;
    pthread_mutex_lock(&m->lock);
    *m->last = msg;
    m->last = &msg->next;
    pthread_mutex_unlock(&m->lock);
    if (m->wake != NULL) m->wake(m->ud);
}

exo_msg *exo_mailbox_take(exo_mailbox *m) {
    pthread_mutex_lock(&m->lock);
    exo_msg *all = m->first;
    m->first = NULL;
    m->last = &m->first;
    pthread_mutex_unlock(&m->lock);
    return all;
}

struct exo_latch {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool set; /* guarded by lock */
};

exo_status exo_latch_create(exo_latch **out, exo_error *err) {
    *out = NULL;
    exo_latch *l = exo_calloc(1, sizeof *l);
    if (l == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a latch");
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    *out = l;
    return EXO_OK;
}

void exo_latch_destroy(exo_latch *l) {
    if (l == NULL) return;
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
    exo_free(l);
}

void exo_latch_set(exo_latch *l) {
    pthread_mutex_lock(&l->lock);
    l->set = true;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

bool exo_latch_wait(exo_latch *l, uint32_t ms) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)(ms / 1000);
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&l->lock);
    int rc = 0;
    while (!l->set && rc == 0) rc = pthread_cond_timedwait(&l->changed, &l->lock, &until);
    bool set = l->set;
    pthread_mutex_unlock(&l->lock);
    return set;
}
