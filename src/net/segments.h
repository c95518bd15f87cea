/* segments.h - how many TCP segments with data a socket has sent, and how many of them once more.
 * Thread: ANY. */
#ifndef EXO_NET_SEGMENTS_H
#define EXO_NET_SEGMENTS_H

#include <exo/base.h>

typedef struct {
    uint64_t n_sent, n_again;
} exo_segments;

/* False: this system does not tell. */
bool exo_segments_of(int fd, exo_segments *out);

#endif
