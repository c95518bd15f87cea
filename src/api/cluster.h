/* cluster.h - exo's own routes, as users of upstream exo know them.
 *
 *   cluster.c    /health, /state, /node_id, POST /place_instance, DELETE /instance/{id},
 *                /download
 *   instance.c   GET /instance/{id}, POST /instance, GET /instance/await
 *   previews.c   GET /instance/previews
 *   events.c     GET /events
 *   metrics.c    GET /metrics
 * Thread: HTTP threads. */
#ifndef EXO_API_CLUSTER_H
#define EXO_API_CLUSTER_H

#include "api/call.h"
#include "api/fields.h"

void exo_cluster_health(exo_call *c);
void exo_cluster_state(exo_call *c);
void exo_cluster_state_part(exo_call *c, const char *path);
void exo_cluster_node_id(exo_call *c);
void exo_cluster_place(exo_call *c);
void exo_cluster_download(exo_call *c);
void exo_cluster_drop_download(exo_call *c, const char *path);
void exo_cluster_delete(exo_call *c, const char *instance_id);

void exo_instance_get(exo_call *c, const char *instance_id);
void exo_instance_create(exo_call *c);
void exo_instance_await(exo_call *c);
void exo_instance_previews(exo_call *c);

void exo_events_get(exo_call *c);
void exo_metrics_get(exo_call *c);

/* ---- between the files ---- */

/* Places the model and replies once it serves or cannot.  A wrong member is in f; then nothing was
 * begun. */
void exo_cluster_begin(exo_call *c, exo_fields *f, const char *model_id,
                       const exo_placement_wish *wish);
/* Replies with what is wrong. */
void exo_cluster_refuse(exo_call *c, const exo_fields *f);

#endif
