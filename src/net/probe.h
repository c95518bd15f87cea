/* probe.h - the UDP socket that sends trains and hears them (train.h).
 *
 * Only datagrams of trains are looked at, and their token must be one that the owner expects:
 * whatever else arrives costs one read.  Arrival times are the kernel's.
 * Thread: LOOP; on_packet comes from reads. */
#ifndef EXO_NET_PROBE_H
#define EXO_NET_PROBE_H

#include <exo/base.h>

#include <uv.h>

typedef struct exo_probe exo_probe;

typedef void (*exo_probe_fn)(void *ud, uint64_t token, uint32_t index, uint32_t bytes,
                             uint64_t at_us);

/* host: where links are accepted, an address or a wildcard.  The port is tried first, so that one
 * rule of a firewall fits both; taken, any other serves. */
exo_status exo_probe_create(uv_loop_t *loop, const char *host, uint16_t port,
                            exo_probe_fn on_packet, void *ud, exo_probe **out, exo_error *err);
uint16_t exo_probe_port(const exo_probe *p);
/* Sends a whole train at once; the number of datagrams that left. */
uint32_t exo_probe_send(exo_probe *p, const char *host, uint16_t port, uint64_t token, uint32_t n);
void exo_probe_close(exo_probe *p); /* NULL is allowed; the loop frees it */

#endif
