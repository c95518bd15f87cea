/* lock.c - see lock.h. */
#define _POSIX_C_SOURCE 200809L
#include "base/lock.h"

#include "base/mem.h"

#include <pthread.h>

struct exo_lock {
    pthread_mutex_t mutex;
};

exo_status exo_lock_create(exo_lock **out, exo_error *err) {
    *out = exo_malloc(sizeof **out);
    if (*out == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a lock");
    pthread_mutex_init(&(*out)->mutex, NULL);
    return EXO_OK;
}

void exo_lock_destroy(exo_lock *l) {
    if (l == NULL) return;
    pthread_mutex_destroy(&l->mutex);
    exo_free(l);
}

void exo_lock_take(exo_lock *l) { pthread_mutex_lock(&l->mutex); }

void exo_lock_give(exo_lock *l) { pthread_mutex_unlock(&l->mutex); }
