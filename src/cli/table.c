/* table.c - see table.h. */
#define _DEFAULT_SOURCE
#include "cli/table.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

#define GAP 2 /* between columns */

/* ---- text ---- */

/* Control characters of both sets, and those that change a line's direction. */
static bool is_tricky(int32_t c) {
    return c < 0x20 || (c >= 0x7F && c < 0xA0) || (c >= 0x200E && c <= 0x200F) ||
           (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
}

/* The character at text: its bytes and how many columns it takes; 0 bytes = the end. */
static size_t step(const char *text, int32_t *c, int *columns) {
    utf8proc_ssize_t n = utf8proc_iterate((const uint8_t *)text, -1, c);
    *columns = 1;
    if (*text == '\0') return 0;
    if (n <= 0) { /* no UTF-8 */
        *c = -1;
        return 1;
    }
    *columns = utf8proc_charwidth(*c);
    return (size_t)n;
}

void exo_clean_text(const char *text, char *out, size_t cap) {
    int32_t c;
    int columns;
    size_t n = 0;
    for (size_t len; (len = step(text, &c, &columns)) > 0; text += len) {
        bool bad = c < 0 || is_tricky(c);
        size_t add = bad ? 1 : len;
        if (n + add >= cap) break;
        memcpy(out + n, bad ? "?" : text, add);
        n += add;
    }
    out[n] = '\0';
}

int exo_columns_of(const char *text) {
    int32_t c;
    int sum = 0, columns;
    for (size_t len; (len = step(text, &c, &columns)) > 0; text += len) sum += columns;
    return sum;
}

void exo_put_columns(exo_buf *out, const char *text, int n_columns) {
    int32_t c;
    int columns;
    for (size_t len; (len = step(text, &c, &columns)) > 0; text += len) {
        n_columns -= columns;
        if (n_columns < 0) return;
        exo_buf_append(out, text, len);
    }
}

static const char *text_of(const json_t *j, const char *key) {
    const char *text = json_string_value(json_object_get(j, key));
    return text != NULL ? text : "";
}

static void put_text(char *cell, const char *text) { exo_clean_text(text, cell, EXO_CELL_BYTES); }

static void put_number(char *cell, const char *fmt, const json_t *number) {
    snprintf(cell, EXO_CELL_BYTES, "-");
    if (json_is_number(number)) snprintf(cell, EXO_CELL_BYTES, fmt, json_number_value(number));
}

/* ---- a table ---- */

void exo_table_finish(exo_table *t) {
    exo_free(t->rows);
    *t = (exo_table){0};
}

static exo_status begin(exo_table *t, const exo_table_row *heads, size_t n_rows, exo_error *err) {
    *t = (exo_table){.cap = n_rows + 1};
    t->rows = exo_calloc(t->cap, sizeof *t->rows);
    if (t->rows == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a table");
    t->rows[t->n++] = *heads;
    while (t->n_columns < EXO_TABLE_COLUMNS && heads->cells[t->n_columns][0] != '\0') {
        t->n_columns++;
    }
    return EXO_OK;
}

static exo_table_row *add_row(exo_table *t) { return t->n < t->cap ? &t->rows[t->n++] : NULL; }

void exo_table_print(const exo_table *t, int n_columns, exo_buf *out) {
    int widths[EXO_TABLE_COLUMNS] = {0}, last = 0, sum = -GAP;
    for (int k = 0; k < t->n_columns; k++) {
        for (size_t i = 0; i < t->n; i++) {
            int n = exo_columns_of(t->rows[i].cells[k]);
            if (n > widths[k]) widths[k] = n;
        }
        sum += widths[k] + GAP;
    }
    for (const char *d = t->drop; n_columns > 0 && sum > n_columns && d != NULL && *d; d++) {
        sum -= widths[*d - '0'] + GAP;
        widths[*d - '0'] = -1; /* it is not shown */
    }
    for (int k = 0; k < t->n_columns; k++) {
        if (widths[k] >= 0) last = k;
    }
    for (size_t i = 0; i < t->n; i++) {
        exo_buf line = {0};
        for (int k = 0; k < t->n_columns; k++) {
            const char *cell = t->rows[i].cells[k];
            int pad = k == last ? 0 : widths[k] - exo_columns_of(cell) + GAP;
            if (widths[k] >= 0) exo_buf_printf(&line, "%s%*s", cell, pad, "");
        }
        if (!exo_buf_ok(&line)) out->failed = true;
        exo_put_columns(out, exo_buf_str(&line), n_columns > 0 ? n_columns : INT32_MAX);
        exo_buf_putc(out, '\n');
        exo_buf_finish(&line);
    }
}

/* ---- nodes ---- */

enum { NAME, ID, ROLE, DEVICE, MEMORY, HEAT, POWER, LOAD, SUPPLY, LINK };

static void put_memory(char *cell, const json_t *m) {
    const json_t *used = json_object_get(m, "memory_used_bytes");
    const json_t *total = json_object_get(m, "memory_total_bytes");
    snprintf(cell, EXO_CELL_BYTES, "-");
    if (!json_is_integer(used) || !json_is_integer(total)) return;
    double all = json_number_value(total), left = all - json_number_value(used);
    snprintf(cell, EXO_CELL_BYTES, "%.1f of %.1f GiB", left / 0x1p30, all / 0x1p30);
}

/* "71 C", and what follows from it: "84 C throttling"; some systems tell the latter only. */
static void put_heat(char *cell, const json_t *device, const json_t *m) {
    const char *state = text_of(device, "thermal_state");
    put_number(cell, "%.0f C", json_object_get(m, "temperature_celsius"));
    if (state[0] == '\0' || strcmp(state, "normal") == 0) return;
    char heat[EXO_CELL_BYTES / 4], word[EXO_CELL_BYTES / 4];
    snprintf(heat, sizeof heat, "%s", cell);
    exo_clean_text(state, word, sizeof word);
    snprintf(cell, EXO_CELL_BYTES, "%s %s", heat, word);
}

static void put_supply(char *cell, const json_t *device) {
    const json_t *mains = json_object_get(device, "on_mains");
    char battery[EXO_CELL_BYTES];
    put_number(battery, "%.0f %%", json_object_get(device, "battery_percent"));
    const char *plug = json_is_true(mains) ? "mains" : json_is_false(mains) ? "battery" : "";
    bool known = strcmp(battery, "-") != 0;
    snprintf(cell, EXO_CELL_BYTES, "%.24s%s%s", known || *plug == '\0' ? battery : "",
             known && *plug != '\0' ? " " : "", plug);
}

static void put_link(char *cell, const json_t *state, const char *id) {
    size_t i;
    json_t *l;
    bool own = strcmp(id, text_of(state, "node_id")) == 0;
    snprintf(cell, EXO_CELL_BYTES, "%s", own ? "this node" : "-");
    json_array_foreach(json_object_get(state, "links"), i, l) {
        if (strcmp(text_of(l, "sink"), id) != 0) continue;
        double rtt = json_number_value(json_object_get(l, "rtt_ms"));
        if (rtt > 0) snprintf(cell, EXO_CELL_BYTES, "%.2f ms", rtt); /* 0: not measured yet */
    }
}

static void put_device(exo_table_row *r, const char *device_id, const json_t *device) {
    const json_t *m = json_object_get(device, "metrics");
    const char *slash = strchr(device_id, '/');
    put_text(r->cells[DEVICE], slash != NULL ? slash + 1 : device_id);
    put_memory(r->cells[MEMORY], m);
    put_heat(r->cells[HEAT], device, m);
    put_number(r->cells[POWER], "%.0f W", json_object_get(m, "power_watts"));
    put_number(r->cells[LOAD], "%.0f %%", json_object_get(m, "compute_utilization_percent"));
    put_supply(r->cells[SUPPLY], device);
}

/* One line for a node, and one more for each device but its first. */
static void add_node(exo_table *t, const json_t *state, const char *id, const json_t *node) {
    const json_t *devices = json_object_get(json_object_get(state, "telemetry"), "devices");
    const char *device_id;
    json_t *device;
    exo_table_row *r = add_row(t);
    if (r == NULL) return;
    put_text(r->cells[NAME], text_of(node, "name"));
    put_text(r->cells[ID], id);
    snprintf(r->cells[ROLE], EXO_CELL_BYTES, "%s",
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

exo_status exo_table_of_nodes(const json_t *state, exo_table *out, exo_error *err) {
    static const exo_table_row heads = {
        {"NAME", "ID", "ROLE", "DEVICE", "FREE MEMORY", "HEAT", "POWER", "LOAD", "SUPPLY", "LINK"}};
    const json_t *nodes = json_object_get(state, "nodes");
    const json_t *devices = json_object_get(json_object_get(state, "telemetry"), "devices");
    exo_status st = begin(out, &heads, json_object_size(nodes) + json_object_size(devices), err);
    if (st != EXO_OK) return st;
    out->drop = "1862379"; /* ID, SUPPLY, POWER, ROLE, DEVICE, LOAD, LINK */
    const char *id;
    json_t *node;
    json_object_foreach((json_t *)nodes, id, node) add_node(out, state, id, node);
    return EXO_OK;
}

/* ---- links and instances ---- */

/* What people call a node; its id where nobody says. */
static void put_node(char *cell, const json_t *state, const char *id) {
    const char *name = text_of(json_object_get(json_object_get(state, "nodes"), id), "name");
    put_text(cell, name[0] != '\0' ? name : id);
}

static void put_measured(char *cell, const char *fmt, const json_t *l, const char *key,
                         double per) {
    const json_t *v = json_object_get(l, key);
    snprintf(cell, EXO_CELL_BYTES, "-");
    if (!json_is_number(v)) return;
    snprintf(cell, EXO_CELL_BYTES, fmt, json_number_value(v) * per);
}

exo_status exo_table_of_links(const json_t *state, exo_table *out, exo_error *err) {
    static const exo_table_row heads = {
        {"FROM", "TO", "ROUND TRIP", "JITTER", "LOSS", "BANDWIDTH", "SENT", "RECEIVED"}};
    const json_t *links = json_object_get(state, "links");
    size_t i;
    json_t *l;
    exo_status st = begin(out, &heads, json_array_size(links), err);
    if (st != EXO_OK) return st;
    out->drop = "76340";
    json_array_foreach(links, i, l) {
        exo_table_row *r = add_row(out);
        if (r == NULL) break;
        put_node(r->cells[0], state, text_of(l, "source"));
        put_node(r->cells[1], state, text_of(l, "sink"));
        put_measured(r->cells[2], "%.2f ms", l, "rtt_ms", 1);
        if (json_number_value(json_object_get(l, "rtt_ms")) == 0) put_text(r->cells[2], "-");
        put_measured(r->cells[3], "%.2f ms", l, "jitter_ms", 1);
        put_measured(r->cells[4], "%.1f %%", l, "loss", 100);
        put_measured(r->cells[5], "%.0f Mbit/s", l, "bandwidth_mbps", 1);
        put_measured(r->cells[6], "%.1f MB", l, "bytes_sent", 1e-6);
        put_measured(r->cells[7], "%.1f MB", l, "bytes_received", 1e-6);
    }
    return EXO_OK;
}

/* "n0 0-2, n1 3-5" */
static void put_shards(char *cell, const json_t *state, const json_t *instance) {
    size_t i, n = 0;
    json_t *s;
    json_array_foreach(json_object_get(instance, "shards"), i, s) {
        char name[EXO_CELL_BYTES];
        put_node(name, state, text_of(s, "node_id"));
        if (n >= EXO_CELL_BYTES - 1) return;
        n += (size_t)snprintf(cell + n, EXO_CELL_BYTES - n, "%s%.40s %d-%d", i > 0 ? ", " : "",
                              name, (int)json_integer_value(json_object_get(s, "start_layer")),
                              (int)json_integer_value(json_object_get(s, "end_layer")) - 1);
    }
}

exo_status exo_table_of_instances(const json_t *state, exo_table *out, exo_error *err) {
    static const exo_table_row heads = {{"MODEL", "INSTANCE", "STATE", "TOKENS", "LAYERS"}};
    const json_t *instances = json_object_get(state, "instances");
    const char *id;
    json_t *i;
    exo_status st = begin(out, &heads, json_object_size(instances), err);
    if (st != EXO_OK) return st;
    out->drop = "13";
    json_object_foreach((json_t *)instances, id, i) {
        exo_table_row *r = add_row(out);
        if (r == NULL) break;
        const json_t *shards = json_object_get(i, "shards");
        const json_t *last = json_array_get(shards, json_array_size(shards) - 1);
        put_text(r->cells[0], text_of(i, "model_id"));
        put_text(r->cells[1], id);
        put_text(r->cells[2], text_of(i, "state"));
        put_number(r->cells[3], "%.0f", json_object_get(json_object_get(last, "stats"), "tokens"));
        put_shards(r->cells[4], state, i);
    }
    return EXO_OK;
}
