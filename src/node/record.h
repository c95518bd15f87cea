/* record.h - what a peer says of itself, judged before it is kept: devices, models, instances.
 *
 * A peer holds the cluster's key and may still be wrong: another version, a broken driver, a disk
 * that somebody wrote to.  What it says is shown in GET /state, counted when models are placed and
 * printed on terminals, so that it must be of the kind and within the limits named here.
 * Pure.  Thread: ANY. */
#ifndef EXO_NODE_RECORD_H
#define EXO_NODE_RECORD_H

#include <exo/base.h>

#include <jansson.h>

#define EXO_RECORD_MAX_BYTES     (1u << 20)
#define EXO_RECORD_MAX_DEVICES   16
#define EXO_RECORD_MAX_MODELS    4096
#define EXO_RECORD_MAX_INSTANCES 1024
#define EXO_RECORD_MAX_TEXT      255          /* bytes */
#define EXO_RECORD_MAX_MEMORY    (1ull << 50) /* bytes of a device: a PiB */
#define EXO_DEVICE_ID_MAX        40           /* bytes of a node's own name for a device */

/* A node's own name for a device: "vulkan:0", without any node in it. */
bool exo_device_id_is_own(const char *id);

/* EXO_EFORMAT says which member is wrong, and how.  Makes `name` the peer's, as its hello proved
 * it, and drops instances that are not node_id's to speak of.  Members that this version does not
 * know stay. */
exo_status exo_record_check(json_t *record, const char *node_id, const char *name, exo_error *err);

#endif
