/* cmd_nodes.c - `exo nodes`: the nodes of the cluster, how hot and how busy they are, and the
 * links to them, as the node that runs here knows it. */
#define _DEFAULT_SOURCE
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/local.h"

#include <stdio.h>
#include <string.h>

#define CELL_BYTES 128

enum { NAME, ID, ROLE, DEVICE, FREE, HEAT, LOAD, LINK, N_COLUMNS };
typedef struct {
    char cells[N_COLUMNS][CELL_BYTES];
} row;

static const char *text_of(const json_t *j, const char *key) {
    const char *text = json_string_value(json_object_get(j, key));
    return text != NULL ? text : "";
}

/* Text of another node, for a terminal. */
static void put_text(char *cell, const char *text) {
    size_t n = 0;
    for (; text[n] != '\0' && n < CELL_BYTES - 1; n++) {
        unsigned char c = (unsigned char)text[n];
        cell[n] = c < 0x20 || c == 0x7F ? '?' : text[n];
    }
    cell[n] = '\0';
}

/* A figure that nobody knows is "-". */
static void put_number(char *cell, const char *fmt, const json_t *number) {
    char text[CELL_BYTES] = "-";
    if (json_is_number(number)) snprintf(text, sizeof text, fmt, json_number_value(number));
    snprintf(cell, CELL_BYTES, "%s", text);
}

static void put_memory(char *cell, const json_t *m) {
    const json_t *used = json_object_get(m, "memory_used_bytes");
    const json_t *total = json_object_get(m, "memory_total_bytes");
    snprintf(cell, CELL_BYTES, "-");
    if (!json_is_integer(used) || !json_is_integer(total)) return;
    double all = json_number_value(total), left = all - json_number_value(used);
    snprintf(cell, CELL_BYTES, "%.1f of %.1f GiB", left / 0x1p30, all / 0x1p30);
}

static void put_link(char *cell, const json_t *state, const char *id) {
    size_t i;
    json_t *l;
    snprintf(cell, CELL_BYTES, "%s", strcmp(id, text_of(state, "node_id")) == 0 ? "this node" : "");
    json_array_foreach(json_object_get(state, "links"), i, l) {
        if (strcmp(text_of(l, "sink"), id) != 0) continue;
        double rtt = json_number_value(json_object_get(l, "rtt_ms"));
        if (rtt > 0) snprintf(cell, CELL_BYTES, "%.2f ms", rtt); /* 0: not measured yet */
    }
}

static void put_device(row *r, const char *device_id, const json_t *device) {
    const json_t *m = json_object_get(device, "metrics");
    const char *slash = strchr(device_id, '/');
    put_text(r->cells[DEVICE], slash != NULL ? slash + 1 : device_id);
    put_memory(r->cells[FREE], m);
    put_number(r->cells[HEAT], "%.0f C", json_object_get(m, "temperature_celsius"));
    put_number(r->cells[LOAD], "%.0f %%", json_object_get(m, "compute_utilization_percent"));
}

/* ---- the table ---- */

typedef struct {
    row *rows;
    size_t n, cap;
} table;

static row *add_row(table *t) { return t->n < t->cap ? &t->rows[t->n++] : NULL; }

/* One line for a node, and one more for each device but its first. */
static void add_node(table *t, const json_t *state, const char *id, const json_t *node) {
    const json_t *devices = json_object_get(json_object_get(state, "telemetry"), "devices");
    const char *device_id;
    json_t *device;
    row *r = add_row(t);
    if (r == NULL) return;
    put_text(r->cells[NAME], text_of(node, "name"));
    put_text(r->cells[ID], id);
    snprintf(r->cells[ROLE], CELL_BYTES, "%s",
             strcmp(id, text_of(state, "master")) == 0 ? "master" : "");
    put_link(r->cells[LINK], state, id);
    size_t n = strlen(id);
    bool first = true;
    json_object_foreach((json_t *)devices, device_id, device) {
        if (strncmp(device_id, id, n) != 0 || device_id[n] != '/') continue;
        if (!first) r = add_row(t);
        first = false;
        if (r != NULL) put_device(r, device_id, device);
    }
}

/* Characters of UTF-8, as a terminal shows them. */
static int width_of(const char *text) {
    int n = 0;
    for (; *text != '\0'; text++) n += ((unsigned char)*text & 0xC0) != 0x80;
    return n;
}

static void print_table(const table *t) {
    int widths[N_COLUMNS] = {0};
    for (size_t i = 0; i < t->n; i++) {
        for (int k = 0; k < N_COLUMNS; k++) {
            int n = width_of(t->rows[i].cells[k]);
            if (n > widths[k]) widths[k] = n;
        }
    }
    for (size_t i = 0; i < t->n; i++) {
        for (int k = 0; k < LINK; k++) {
            const char *cell = t->rows[i].cells[k];
            printf("%s%*s", cell, widths[k] - width_of(cell) + 2, "");
        }
        printf("%s\n", t->rows[i].cells[LINK]);
    }
}

static exo_status show(const json_t *state, exo_error *err) {
    static const row heads = {
        {"NAME", "ID", "ROLE", "DEVICE", "FREE MEMORY", "HEAT", "LOAD", "LINK"}};
    const json_t *nodes = json_object_get(state, "nodes");
    const json_t *devices = json_object_get(json_object_get(state, "telemetry"), "devices");
    table t = {.cap = 1 + json_object_size(nodes) + json_object_size(devices)};
    t.rows = exo_calloc(t.cap, sizeof *t.rows);
    if (t.rows == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a table");
    t.rows[t.n++] = heads;
    const char *id;
    json_t *node;
    json_object_foreach((json_t *)nodes, id, node) add_node(&t, state, id, node);
    print_table(&t);
    exo_free(t.rows);
    return EXO_OK;
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
    .help = "usage: exo nodes [--json] [--data-dir D]\n\n"
            "Lists the nodes that are linked with the one that runs here: their devices, free\n"
            "memory, temperature and load (\"-\": no sensor tells), and the round trip to each.\n"
            "  --json         the same as JSON, with every figure\n"
            "  --data-dir D   default: EXO_HOME or ~/.exo\n\n"
            "  exo nodes\n",
    .run = nodes,
};
