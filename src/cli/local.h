/* local.h - how commands find the node that runs with the same data directory, and ask it.
 *
 * A node with links holds node.lock and writes where its API listens into node.api.  Thread:
 * main. */
#ifndef EXO_CLI_LOCAL_H
#define EXO_CLI_LOCAL_H

#include <exo/base.h>

#include <jansson.h>

/* By the node, once its API answers; a file that cannot be written is a line in the log. */
void exo_cli_note_api(const char *data_dir, uint16_t port);
bool exo_cli_node_runs(const char *data_dir);
/* GET /state of the node; EXO_ENOTFOUND when none runs. */
exo_status exo_cli_local_state(const char *data_dir, json_t **out, exo_error *err);

#endif
