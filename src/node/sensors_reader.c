/* sensors_reader.c - see sensors_reader.h. */
#include "node/sensors_reader.h"

#include "base/clock.h"
#include "base/mem.h"

#include <pthread.h>
#include <stdatomic.h>

typedef enum { IDLE, READING, DONE } phase;

struct exo_sensors_reader {
    exo_sensors_source source;
    atomic_int holders; /* LOOP, and the read under way */
    atomic_int phase;   /* the thread's from READING to DONE; else LOOP's */
    uint64_t began_ms;  /* LOOP */
    exo_sensors found;
};

exo_status exo_sensors_reader_create(const exo_sensors_source *s, exo_sensors_reader **out,
                                     exo_error *err) {
    *out = exo_calloc(1, sizeof **out);
    if (*out == NULL) {
        if (s->finish != NULL) s->finish(s->ud);
        return exo_error_set(err, EXO_ENOMEM, "out of memory for sensors");
    }
    (*out)->source = *s;
    atomic_store(&(*out)->holders, 1);
    return EXO_OK;
}

void exo_sensors_reader_release(exo_sensors_reader *r) {
    if (r == NULL || atomic_fetch_sub(&r->holders, 1) > 1) return;
    if (r->source.finish != NULL) r->source.finish(r->source.ud);
    exo_free(r);
}

static void *read_once(void *ud) {
    exo_sensors_reader *r = ud;
    exo_sensors_clear(&r->found);
    r->source.read(r->source.ud, &r->found);
    atomic_store(&r->phase, DONE);
    exo_sensors_reader_release(r);
    return NULL;
}

bool exo_sensors_reader_begin(exo_sensors_reader *r) {
    pthread_t thread;
    if (atomic_load(&r->phase) == READING) return false;
    r->began_ms = exo_now_ms();
    atomic_fetch_add(&r->holders, 1);
    atomic_store(&r->phase, READING);
    if (pthread_create(&thread, NULL, read_once, r) == 0) {
        pthread_detach(thread);
        return true;
    }
    atomic_store(&r->phase, IDLE);
    atomic_fetch_sub(&r->holders, 1);
    return false;
}

bool exo_sensors_reader_take(exo_sensors_reader *r, exo_sensors *out) {
    if (atomic_load(&r->phase) != DONE) return false;
    *out = r->found;
    atomic_store(&r->phase, IDLE);
    return true;
}

uint64_t exo_sensors_reader_busy_ms(const exo_sensors_reader *r) {
    return atomic_load(&r->phase) == READING ? exo_now_ms() - r->began_ms : 0;
}
