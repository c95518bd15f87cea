/* local.h - how commands find the node that runs with the same data directory, and ask it.
 *
 * A node with links holds node.lock and writes where its API listens into node.api.  Thread:
 * main. */
#ifndef EXO_CLI_LOCAL_H
#define EXO_CLI_LOCAL_H

#include "cli/cli.h"
#include "net/identity.h"

#include <exo/base.h>

#include <jansson.h>

/* By the node, once its API answers; a file that cannot be written is a line in the log. */
void exo_cli_note_api(const char *data_dir, uint16_t port);
bool exo_cli_node_runs(const char *data_dir);
/* A node has run with this directory. */
bool exo_cli_has_cluster(const char *data_dir);
/* EXO_CLUSTER_KEY, NULL when it is not set; false after one line on stderr: it is no passphrase. */
bool exo_cli_cluster_key(const exo_command *c, const char **out);

/* Somebody who may want the wait for an answer to end: asked when fd can be read, or fd -1. */
typedef struct {
    int fd;
    bool (*go_on)(void *ud, bool readable); /* at least four times a second */
    void *ud;
} exo_cli_patience;

/* GET /state of the node; EXO_ENOTFOUND when none runs. */
exo_status exo_cli_local_state(const char *data_dir, json_t **out, exo_error *err);
/* The same; EXO_ECANCELED as soon as p says that it is enough. */
exo_status exo_cli_local_state_while(const char *data_dir, const exo_cli_patience *p, json_t **out,
                                     exo_error *err);
/* POST path; EXO_EPEER: the node refused, and err has its words. */
exo_status exo_cli_local_post(const char *data_dir, const char *path, json_t *body_take,
                              json_t **out, exo_error *err);
/* The id of a node by id or by name, from GET /state, linked or remembered; an id that is not in it
 * is taken as it is: a node may be off. */
exo_status exo_cli_find_node(const json_t *state, const char *word, char out[EXO_NODE_ID_BYTES],
                             exo_error *err);

#endif
