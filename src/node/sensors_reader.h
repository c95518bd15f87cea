/* sensors_reader.h - reads sensors on a thread of its own, one read at a time.
 *
 * A driver may take seconds to answer, or never answer: neither the node nor its end waits for it.
 * A read that never ends keeps its thread and its memory, and nothing else.
 * Thread: LOOP; the source is called on the reader's thread. */
#ifndef EXO_NODE_SENSORS_READER_H
#define EXO_NODE_SENSORS_READER_H

#include "node/sensors.h"

#include <exo/base.h>

typedef struct exo_sensors_reader exo_sensors_reader;

/* Where figures come from.  read fills in what it knows of out, which is all unknown; it may take
 * as long as it likes.  finish frees ud once no read can come any more; it may come long after the
 * reader was let go, on any thread. */
typedef struct {
    void (*read)(void *ud, exo_sensors *out);
    void (*finish)(void *ud); /* may be NULL */
    void *ud;
} exo_sensors_source;

/* Takes the source, also on failure. */
exo_status exo_sensors_reader_create(const exo_sensors_source *s, exo_sensors_reader **out,
                                     exo_error *err);
/* Begins a read, unless one is under way.  False: it is, or there is no thread for it. */
bool exo_sensors_reader_begin(exo_sensors_reader *r);
/* True once for each read that has ended: *out is what it found. */
bool exo_sensors_reader_take(exo_sensors_reader *r, exo_sensors *out);
/* How long the read under way takes by now; 0 = none is. */
uint64_t exo_sensors_reader_busy_ms(const exo_sensors_reader *r);
void exo_sensors_reader_release(exo_sensors_reader *r); /* NULL is allowed */

#endif
