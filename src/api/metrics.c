/* metrics.c - GET /metrics: what this node knows, in Prometheus' text format.
 *
 * Names are exo's own (exo_*); what vLLM has a name for is there under that name too, so that its
 * dashboards fit.  Devices and links are those of the whole cluster, as this node knows them; what
 * was asked is counted by the node that was asked, so that sums over all nodes are right.  A figure
 * that nobody knows has no sample. */
#define _DEFAULT_SOURCE
#include "api/cluster.h"

#include "base/buf.h"

#include <exo/version.h>
#include <stdio.h>
#include <string.h>

#define MAX_LABELS 4

typedef struct {
    exo_buf *out;
    const json_t *state;
    json_t *models; /* {model id: counts}, also of models that nobody asked yet */
} page;

/* ---- the format ---- */

typedef struct {
    const char *name, *value; /* name NULL = no more */
} label;

static void begin_family(exo_buf *out, const char *name, const char *type, const char *help) {
    exo_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_value(exo_buf *out, const char *value) {
    for (; *value != '\0'; value++) {
        switch (*value) {
        case '\\': exo_buf_puts(out, "\\\\"); break;
        case '"': exo_buf_puts(out, "\\\""); break;
        case '\n': exo_buf_puts(out, "\\n"); break;
        default: exo_buf_putc(out, *value);
        }
    }
}

static void put_name(exo_buf *out, const char *name, const char *suffix, const label *labels) {
    exo_buf_printf(out, "%s%s", name, suffix);
    for (size_t i = 0; i < MAX_LABELS && labels[i].name != NULL; i++) {
        exo_buf_printf(out, "%c%s=\"", i == 0 ? '{' : ',', labels[i].name);
        put_value(out, labels[i].value);
        exo_buf_putc(out, '"');
    }
    if (labels[0].name != NULL) exo_buf_putc(out, '}');
    exo_buf_putc(out, ' ');
}

static void put_count(exo_buf *out, json_int_t n) {
    exo_buf_printf(out, "%" JSON_INTEGER_FORMAT "\n", n);
}

/* A number, or a truth as 1 and 0; anything else is unknown. */
static void sample(exo_buf *out, const char *name, const label *labels, const json_t *value) {
    if (!json_is_number(value) && !json_is_boolean(value)) return;
    put_name(out, name, "", labels);
    if (json_is_real(value)) {
        exo_buf_printf(out, "%.15g\n", json_real_value(value));
    } else {
        put_count(out, json_is_boolean(value) ? json_is_true(value) : json_integer_value(value));
    }
}

static const char *text_of(const json_t *j, const char *key) {
    const char *text = json_string_value(json_object_get(j, key));
    return text != NULL ? text : "";
}

/* ---- nodes and devices ---- */

static void put_nodes(const page *p) {
    const char *id;
    json_t *node;
    begin_family(p->out, "exo_build_info", "gauge", "The version of the node that was asked.");
    put_name(p->out, "exo_build_info", "",
             (label[MAX_LABELS]){{"version", EXO_VERSION}, {"commit", EXO_COMMIT}});
    put_count(p->out, 1);
    begin_family(p->out, "exo_node_info", "gauge", "A node that is linked, itself included.");
    json_object_foreach(json_object_get(p->state, "nodes"), id, node) {
        put_name(p->out, "exo_node_info", "",
                 (label[MAX_LABELS]){{"node_id", id},
                                     {"node", text_of(node, "name")},
                                     {"version", text_of(node, "version")}});
        put_count(p->out, 1);
    }
    const char *master = text_of(p->state, "master");
    begin_family(p->out, "exo_is_master", "gauge", "1 on the cluster's master.");
    put_name(p->out, "exo_is_master", "", (label[MAX_LABELS]){{0}});
    put_count(p->out, strcmp(master, text_of(p->state, "node_id")) == 0);
    begin_family(p->out, "exo_term", "gauge", "The term of the cluster's master.");
    sample(p->out, "exo_term", (label[MAX_LABELS]){{0}}, json_object_get(p->state, "term"));
}

typedef struct {
    const char *name, *type, *help, *key;
} figure;

/* Of a device: members of its metrics, then of itself. */
static const figure device_metrics[] = {
    {"exo_device_memory_used_bytes", "gauge", "Memory in use.", "memory_used_bytes"},
    {"exo_device_memory_total_bytes", "gauge", "Memory in all.", "memory_total_bytes"},
    {"exo_device_utilization_percent", "gauge", "Load, 0 to 100.", "compute_utilization_percent"},
    {"exo_device_power_watts", "gauge", "Power drawn.", "power_watts"},
    {"exo_device_temperature_celsius", "gauge", "Temperature.", "temperature_celsius"},
    {"exo_device_clock_mhz", "gauge", "Clock rate.", "clock_rate_mhz"},
};
static const figure device_members[] = {
    {"exo_device_score", "gauge", "Health from 0 to 1, relative to the device itself.", "score"},
    {"exo_device_available", "gauge", "1 while it can compute.", "is_available"},
    {"exo_device_battery_percent", "gauge", "Charge of its machine's battery.", "battery_percent"},
    {"exo_device_on_mains", "gauge", "1 on mains power.", "on_mains"},
    {"exo_device_heard_age_seconds", "gauge", "Since its last heartbeat.", "last_heard_s"},
};

/* "node_id/vulkan:0" as labels; false: that is no such name. */
static bool device_labels(const page *p, const char *id, char node_id[32],
                          label labels[MAX_LABELS]) {
    const char *slash = strchr(id, '/');
    if (slash == NULL || slash - id >= 32) return false;
    memcpy(node_id, id, (size_t)(slash - id));
    node_id[slash - id] = '\0';
    const json_t *node = json_object_get(json_object_get(p->state, "nodes"), node_id);
    labels[0] = (label){"node_id", node_id};
    labels[1] = (label){"node", text_of(node, "name")};
    labels[2] = (label){"device", slash + 1};
    labels[3] = (label){0};
    return true;
}

static void put_device_figure(const page *p, const figure *f, bool of_metrics) {
    json_t *devices = json_object_get(json_object_get(p->state, "telemetry"), "devices"), *d;
    const char *id;
    begin_family(p->out, f->name, f->type, f->help);
    json_object_foreach(devices, id, d) {
        char node_id[32];
        label labels[MAX_LABELS];
        if (!device_labels(p, id, node_id, labels)) continue;
        const json_t *from = of_metrics ? json_object_get(d, "metrics") : d;
        sample(p->out, f->name, labels, json_object_get(from, f->key));
    }
}

static void put_thermal_states(const page *p) {
    json_t *devices = json_object_get(json_object_get(p->state, "telemetry"), "devices"), *d;
    const char *id;
    begin_family(p->out, "exo_device_thermal_state", "gauge",
                 "1 for the state that the device is in.");
    json_object_foreach(devices, id, d) {
        char node_id[32];
        label labels[MAX_LABELS];
        const char *state = text_of(d, "thermal_state");
        if (state[0] == '\0' || !device_labels(p, id, node_id, labels)) continue;
        labels[3] = (label){"state", state};
        put_name(p->out, "exo_device_thermal_state", "", labels);
        put_count(p->out, 1);
    }
}

static void put_devices(const page *p) {
    for (size_t i = 0; i < sizeof device_metrics / sizeof device_metrics[0]; i++) {
        put_device_figure(p, &device_metrics[i], true);
    }
    for (size_t i = 0; i < sizeof device_members / sizeof device_members[0]; i++) {
        put_device_figure(p, &device_members[i], false);
    }
    put_thermal_states(p);
}

/* ---- the cluster ---- */

static const figure aggregates[] = {
    {"exo_cluster_device_count", "gauge", "Devices, as the master counts them.", "device_count"},
    {"exo_cluster_total_memory_bytes", "gauge", "Memory of all devices.", "total_memory_bytes"},
    {"exo_cluster_used_memory_bytes", "gauge", "Memory in use.", "used_memory_bytes"},
    {"exo_cluster_available_memory_bytes", "gauge", "Memory that is free.",
     "available_memory_bytes"},
    {"exo_cluster_average_utilization_percent", "gauge", "Mean over the devices that know it.",
     "average_utilization_percent"},
    {"exo_cluster_average_temperature_celsius", "gauge", "Mean over the devices that know it.",
     "average_temperature_celsius"},
    {"exo_cluster_total_power_watts", "gauge", "Sum over the devices that know it.",
     "total_power_watts"},
};

static void put_cluster(const page *p) {
    const json_t *c = json_object_get(json_object_get(p->state, "telemetry"), "cluster");
    for (size_t i = 0; i < sizeof aggregates / sizeof aggregates[0]; i++) {
        const figure *f = &aggregates[i];
        begin_family(p->out, f->name, f->type, f->help);
        sample(p->out, f->name, (label[MAX_LABELS]){{0}}, json_object_get(c, f->key));
    }
}

static const figure link_figures[] = {
    {"exo_link_rtt_milliseconds", "gauge", "Round trip; absent until measured.", "rtt_ms"},
    {"exo_link_jitter_milliseconds", "gauge", "How far single round trips are from that.",
     "jitter_ms"},
    {"exo_link_loss_ratio", "gauge", "The part of what is sent that is lost, 0 to 1.", "loss"},
    {"exo_link_bandwidth_megabits", "gauge", "Mbit/s, as measured.", "bandwidth_mbps"},
    {"exo_link_sent_bytes_total", "counter", "Bytes sent on the control link.", "bytes_sent"},
    {"exo_link_received_bytes_total", "counter", "Bytes received on it.", "bytes_received"},
};

static void put_links(const page *p) {
    for (size_t i = 0; i < sizeof link_figures / sizeof link_figures[0]; i++) {
        const figure *f = &link_figures[i];
        size_t k;
        json_t *l;
        begin_family(p->out, f->name, f->type, f->help);
        json_array_foreach(json_object_get(p->state, "links"), k, l) {
            const json_t *v = json_object_get(l, f->key);
            bool is_rtt = strcmp(f->key, "rtt_ms") == 0;
            if (is_rtt && json_number_value(v) == 0) continue; /* not measured yet */
            sample(
                p->out, f->name,
                (label[MAX_LABELS]){{"source", text_of(l, "source")}, {"sink", text_of(l, "sink")}},
                v);
        }
    }
}

/* ---- instances ---- */

static const figure stage_figures[] = {
    {"exo_stage_weight_bytes", "gauge", "Weights of a stage.", "weight_bytes"},
    {"exo_stage_kv_bytes", "gauge", "Its pool of keys and values.", "kv_bytes"},
};
static const figure stage_counters[] = {
    {"exo_stage_steps_total", "counter", "Steps computed.", "steps"},
    {"exo_stage_rows_total", "counter", "Rows computed: tokens read or made.", "rows"},
    {"exo_stage_tokens_total", "counter", "Rows that wanted logits.", "tokens"},
    {"exo_stage_busy_microseconds_total", "counter", "Time inside the engine.", "busy_us"},
    {"exo_stage_lane_sent_bytes_total", "counter", "Bytes sent to other stages.", "bytes_sent"},
};

static void put_stage_figure(const page *p, const figure *f, bool of_stats) {
    const char *id;
    json_t *i, *shard;
    size_t s;
    begin_family(p->out, f->name, f->type, f->help);
    json_object_foreach(json_object_get(p->state, "instances"), id, i) {
        json_array_foreach(json_object_get(i, "shards"), s, shard) {
            char stage[24];
            snprintf(stage, sizeof stage, "%zu", s);
            const json_t *from = of_stats ? json_object_get(shard, "stats") : shard;
            sample(p->out, f->name,
                   (label[MAX_LABELS]){{"instance_id", id},
                                       {"model_name", text_of(i, "model_id")},
                                       {"stage", stage},
                                       {"node_id", text_of(shard, "node_id")}},
                   json_object_get(from, f->key));
        }
    }
}

static void put_instances(const page *p) {
    const char *id;
    json_t *i;
    begin_family(p->out, "exo_instance_state", "gauge", "1 for the state that it is in.");
    json_object_foreach(json_object_get(p->state, "instances"), id, i) {
        put_name(p->out, "exo_instance_state", "",
                 (label[MAX_LABELS]){{"instance_id", id},
                                     {"model_name", text_of(i, "model_id")},
                                     {"state", text_of(i, "state")}});
        put_count(p->out, 1);
    }
    for (size_t k = 0; k < sizeof stage_figures / sizeof stage_figures[0]; k++) {
        put_stage_figure(p, &stage_figures[k], false);
    }
    for (size_t k = 0; k < sizeof stage_counters / sizeof stage_counters[0]; k++) {
        put_stage_figure(p, &stage_counters[k], true);
    }
}

/* The share of the pool that answers hold, of the instances of each model that this node has. */
static void put_kv_usage(const page *p, const char *name) {
    const char *model, *id;
    json_t *counts, *i;
    begin_family(p->out, name, "gauge", "Share of keys' and values' pages in use, 0 to 1.");
    json_object_foreach(p->models, model, counts) {
        json_int_t used = 0, total = 0;
        json_object_foreach(json_object_get(p->state, "instances"), id, i) {
            const json_t *first = json_array_get(json_object_get(i, "shards"), 0);
            const json_t *stats = json_object_get(first, "stats");
            if (strcmp(text_of(i, "model_id"), model) != 0) continue;
            if (strcmp(text_of(i, "owner"), text_of(p->state, "node_id")) != 0) continue;
            used += json_integer_value(json_object_get(stats, "pages_used"));
            total += json_integer_value(json_object_get(stats, "pages_total"));
        }
        if (total <= 0) continue;
        put_name(p->out, name, "", (label[MAX_LABELS]){{"model_name", model}});
        exo_buf_printf(p->out, "%.6g\n", (double)used / (double)total);
    }
}

/* ---- requests ---- */

typedef struct {
    const char *own, *vllm, *vllm_too, *type, *help, *key;
} request_figure;

static const request_figure request_figures[] = {
    {"exo_requests_running", "vllm:num_requests_running", NULL, "gauge",
     "Answers being computed, of those asked on this node.", "running"},
    {"exo_requests_waiting", "vllm:num_requests_waiting", NULL, "gauge",
     "Answers that wait for their turn.", "waiting"},
    {"exo_prompt_tokens_total", "vllm:prompt_tokens_total", "vllm:prefix_cache_queries_total",
     "counter", "Tokens of prompts that were read.", "prompt_tokens"},
    {"exo_answer_tokens_total", "vllm:generation_tokens_total", NULL, "counter",
     "Tokens of answers.", "answer_tokens"},
    {"exo_cached_tokens_total", "vllm:prefix_cache_hits_total", NULL, "counter",
     "Tokens of prompts that were known already.", "cached_tokens"},
};
static const request_figure request_times[] = {
    {"exo_first_token_seconds", "vllm:time_to_first_token_seconds", NULL, "histogram",
     "From the question to the answer's first token.", "first_token_s"},
    {"exo_next_token_seconds", "vllm:inter_token_latency_seconds",
     "vllm:time_per_output_token_seconds", "histogram", "From token to token.", "next_token_s"},
    {"exo_answer_seconds", "vllm:e2e_request_latency_seconds", NULL, "histogram", "Whole answers.",
     "answer_s"},
};

static void put_request_figure(const page *p, const char *name, const request_figure *f) {
    const char *model;
    json_t *counts;
    if (name == NULL) return;
    begin_family(p->out, name, f->type, f->help);
    json_object_foreach(p->models, model, counts) {
        json_t *n = json_object_get(counts, f->key);
        put_name(p->out, name, "", (label[MAX_LABELS]){{"model_name", model}});
        put_count(p->out, json_integer_value(n));
    }
}

static void put_histogram(const page *p, const char *name, const char *model, const json_t *h) {
    const json_t *le = json_object_get(h, "le"), *counts = json_object_get(h, "counts");
    json_int_t sum = 0;
    label labels[MAX_LABELS] = {{"model_name", model}, {0}};
    for (size_t i = 0; i < json_array_size(counts); i++) {
        char bound[32] = "+Inf";
        if (i < json_array_size(le)) {
            snprintf(bound, sizeof bound, "%g", json_real_value(json_array_get(le, i)));
        }
        sum += json_integer_value(json_array_get(counts, i));
        labels[1] = (label){"le", bound};
        put_name(p->out, name, "_bucket", labels);
        put_count(p->out, sum);
    }
    labels[1] = (label){0};
    put_name(p->out, name, "_sum", labels);
    exo_buf_printf(p->out, "%.9g\n", json_real_value(json_object_get(h, "sum")));
    put_name(p->out, name, "_count", labels);
    put_count(p->out, sum);
}

static void put_request_times(const page *p, const char *name, const request_figure *f) {
    const char *model;
    json_t *counts;
    if (name == NULL) return;
    begin_family(p->out, name, f->type, f->help);
    json_object_foreach(p->models, model, counts) {
        const json_t *h = json_object_get(counts, f->key);
        if (h != NULL) put_histogram(p, name, model, h);
    }
}

/* exo's: every end.  vLLM's: those of answers, where an error is none. */
static void put_ends(const page *p, const char *name, const char *label_name, bool errors_too) {
    static const char *const ends[] = {"stop", "length", "abort", "error"};
    const char *model;
    json_t *counts;
    begin_family(p->out, name, "counter", "Answers that have ended, and how.");
    json_object_foreach(p->models, model, counts) {
        for (size_t i = 0; i < (errors_too ? 4 : 3); i++) {
            const json_t *n = json_object_get(json_object_get(counts, "ended"), ends[i]);
            put_name(p->out, name, "",
                     (label[MAX_LABELS]){{"model_name", model}, {label_name, ends[i]}});
            put_count(p->out, json_integer_value(n));
        }
    }
}

static void put_requests(const page *p) {
    for (size_t i = 0; i < sizeof request_figures / sizeof request_figures[0]; i++) {
        const request_figure *f = &request_figures[i];
        put_request_figure(p, f->own, f);
        put_request_figure(p, f->vllm, f);
        put_request_figure(p, f->vllm_too, f);
    }
    put_ends(p, "exo_answers_total", "end", true);
    put_ends(p, "vllm:request_success_total", "finished_reason", false);
    for (size_t i = 0; i < sizeof request_times / sizeof request_times[0]; i++) {
        const request_figure *f = &request_times[i];
        put_request_times(p, f->own, f);
        put_request_times(p, f->vllm, f);
        put_request_times(p, f->vllm_too, f);
    }
    put_kv_usage(p, "exo_kv_usage_ratio");
    put_kv_usage(p, "vllm:kv_cache_usage_perc");
    put_kv_usage(p, "vllm:gpu_cache_usage_perc");
}

/* Models that run and that nobody has asked yet count as well: with 0. */
static void add_models(const page *p) {
    const char *id;
    json_t *i;
    json_object_foreach(json_object_get(p->state, "instances"), id, i) {
        const char *model = text_of(i, "model_id");
        if (json_object_get(p->models, model) != NULL) continue;
        json_object_set_new(p->models, model, json_object());
    }
}

void exo_metrics_get(exo_call *c) {
    exo_node *n = exo_calls_node(exo_call_all(c));
    exo_error err = {0};
    exo_buf out = {0};
    json_t *state = NULL;
    if (exo_node_state(n, &state, &err) != EXO_OK) {
        exo_call_reply_error(c, err.status, err.message, NULL, NULL);
        return;
    }
    page p = {.out = &out, .state = state, .models = exo_node_counts(n)};
    add_models(&p);
    put_nodes(&p);
    put_devices(&p);
    put_cluster(&p);
    put_links(&p);
    put_instances(&p);
    put_requests(&p);
    exo_call_reply_text(c, "text/plain; version=0.0.4; charset=utf-8", &out);
    exo_buf_finish(&out);
    json_decref(p.models);
    json_decref(state);
}
