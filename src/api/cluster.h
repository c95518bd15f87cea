/* cluster.h - exo's own routes: GET /health, GET /state, POST /place_instance,
 * DELETE /instance/{id}, POST /download/start, DELETE /download/{node_id}/{model}.  Thread: HTTP
 * threads. */
#ifndef EXO_API_CLUSTER_H
#define EXO_API_CLUSTER_H

#include "api/call.h"

void exo_cluster_health(exo_call *c);
void exo_cluster_state(exo_call *c);
void exo_cluster_state_part(exo_call *c, const char *path);
void exo_cluster_node_id(exo_call *c);
void exo_cluster_place(exo_call *c);
void exo_cluster_download(exo_call *c);
void exo_cluster_drop_download(exo_call *c, const char *path);
void exo_cluster_delete(exo_call *c, const char *instance_id);

#endif
