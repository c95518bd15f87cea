/* cmd_nodes.c - `exo nodes`: the nodes of the cluster, how hot and how busy they are, and the
 * links to them, as the node that runs here knows it. */
#define _DEFAULT_SOURCE
#include "cli/cli.h"
#include "cli/local.h"
#include "cli/table.h"

#include <stdio.h>

static exo_status show(const json_t *state, exo_error *err) {
    exo_table t;
    exo_buf out = {0};
    exo_status st = exo_table_of_nodes(state, &t, err);
    if (st != EXO_OK) return st;
    exo_table_print(&t, 0, &out);
    if (!exo_buf_ok(&out)) st = exo_error_set(err, EXO_ENOMEM, "out of memory for a table");
    if (st == EXO_OK) fputs(exo_buf_str(&out), stdout);
    exo_buf_finish(&out);
    exo_table_finish(&t);
    return st;
}

/* ---- the command ---- */

static json_t *shown_as_json(const json_t *state) {
    return json_pack("{s:O?, s:O?, s:O?, s:O?, s:O?}", "node_id", json_object_get(state, "node_id"),
                     "master", json_object_get(state, "master"), "nodes",
                     json_object_get(state, "nodes"), "telemetry",
                     json_object_get(state, "telemetry"), "links", json_object_get(state, "links"));
}

static int nodes(int argc, char **argv) {
    const char *data_dir = NULL;
    bool json = false;
    const exo_option options[] = {
        {.name = "data-dir", .value = &data_dir}, {.name = "json", .seen = &json}, {0}};
    int rc = exo_cli_parse(&exo_cmd_nodes, argc, argv, options, NULL, 0);
    if (rc != EXO_EXIT_OK) return rc;
    if (data_dir == NULL) data_dir = exo_cli_data_dir();
    exo_error err = {0};
    json_t *state = NULL;
    exo_status st = exo_cli_local_state(data_dir, &state, &err);
    if (st == EXO_OK && json) {
        rc = exo_cli_print_json(shown_as_json(state));
    } else {
        if (st == EXO_OK) st = show(state, &err);
        if (st != EXO_OK) rc = exo_cli_fail(&err);
    }
    json_decref(state);
    return rc;
}

const exo_command exo_cmd_nodes = {
    .name = "nodes",
    .summary = "the cluster's nodes: devices, memory, heat, load, links",
    .help =
        "usage: exo nodes [--json] [--data-dir D]\n\n"
        "Lists the nodes that are linked with the one that runs here: their devices, free\n"
        "memory, temperature, power and load (\"-\": no sensor tells), the round trip to each.\n"
        "  --json         the same as JSON, with every figure\n"
        "  --data-dir D   default: EXO_HOME or ~/.exo\n\n"
        "  exo nodes\n",
    .run = nodes,
};
