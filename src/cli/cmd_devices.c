/* cmd_devices.c - `exo devices`: what this machine can compute on, and what it cannot and why.
 *
 * Every device is one JSON object; the text shown to people is made from the same objects. */
#include "cli/cli.h"
#include "cli/devices_vulkan.h"
#include "compute/backend.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define MAX_DEVICES 64

static json_t *number_or_null(double v) { return isnan(v) ? json_null() : json_real(v); }

static json_t *cpu_json(const exo_device_info *d) {
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:i, s:I, s:I, s:o, s:o, s:o, s:b, s:n}", "device_id", d->id, "name",
        d->name, "vendor", d->vendor, "driver_version", d->driver, "compute_units",
        (int)d->compute_units, "memory_total_bytes", (json_int_t)d->memory_bytes,
        "memory_available_bytes", (json_int_t)d->memory_available_bytes, "clock_rate_mhz",
        number_or_null(d->clock_mhz), "temperature_celsius", number_or_null(d->temperature_celsius),
        "power_watts", number_or_null(d->power_watts), "usable", 1, "reason");
}

/* ---- for people ---- */

static const char *text_of(const json_t *d, const char *key) {
    const char *s = json_string_value(json_object_get(d, key));
    return s != NULL ? s : "";
}

static double gib_of(const json_t *d, const char *key) {
    return json_number_value(json_object_get(d, key)) / 0x1p30;
}

/* "26 of 28 trials passed", then one line for each that did not or that measured. */
static void print_trials(const json_t *d) {
    const json_t *trials = json_object_get(d, "trials"), *t;
    size_t i, passed = 0;
    json_array_foreach(trials, i, t) passed += strcmp(text_of(t, "result"), "passed") == 0;
    printf("%11s%zu of %zu trials passed%s\n", "", passed, json_array_size(trials),
           json_is_true(json_object_get(d, "verdict_cached")) ? " (known from an earlier start)"
                                                              : "");
    json_array_foreach(trials, i, t) {
        bool good = strcmp(text_of(t, "result"), "passed") == 0;
        if (good && text_of(t, "reason")[0] == '\0') continue;
        printf("%11s%s, variant %s, %s: %s\n", "", text_of(t, "pipeline"), text_of(t, "variant"),
               text_of(t, "result"), text_of(t, "reason"));
    }
}

/* One measured figure as `what` says it, where there is one. */
static void print_figure(const json_t *d, const char *member, const char *what) {
    const json_t *figure = json_object_get(d, member);
    if (!json_is_real(figure)) return;
    printf(", ");
    printf(what, json_real_value(figure));
}

/* "products of q4_0 on the CPU: why", one line each. */
static void print_on_cpu(const json_t *d) {
    size_t i;
    json_t *o;
    json_array_foreach(json_object_get(d, "on_cpu"), i, o) {
        printf("%11scomputes %s on the CPU: kernel %s: %s\n", "", text_of(o, "computes"),
               text_of(o, "kernel"), text_of(o, "reason"));
    }
}

static void print_device(const json_t *d) {
    const json_t *units = json_object_get(d, "compute_units");
    printf("%-10s ", text_of(d, "device_id"));
    if (json_is_null(json_object_get(d, "name"))) {
        printf("left out: %s\n", text_of(d, "reason"));
        return;
    }
    printf("%s", text_of(d, "name"));
    if (json_is_integer(units)) {
        bool gpu = strncmp(text_of(d, "device_id"), "cpu:", 4) != 0;
        printf(", %lld %s", (long long)json_integer_value(units), gpu ? "compute units" : "cores");
    }
    printf(", %s, %.1f of %.1f GiB free", text_of(d, "driver_version"),
           gib_of(d, "memory_available_bytes"), gib_of(d, "memory_total_bytes"));
    print_figure(d, "copy_gbps", "copies %.1f GB/s");
    print_figure(d, "read_gbps", "reads %.1f GB/s");
    print_figure(d, "compute_gflops", "computes %.0f GFLOP/s");
    printf("\n");
    if (!json_is_true(json_object_get(d, "usable"))) {
        printf("%11sleft out: %s\n", "", text_of(d, "reason"));
    }
    print_on_cpu(d);
    if (json_is_array(json_object_get(d, "trials"))) print_trials(d);
}

/* ---- the command ---- */

static int run(int argc, char **argv) {
    bool as_json = false, again = false;
    const exo_option options[] = {
        {.name = "json", .seen = &as_json}, {.name = "retry", .seen = &again}, {0}};
    int rc = exo_cli_parse(&exo_cmd_devices, argc, argv, options, NULL, 0);
    if (rc != EXO_EXIT_OK) return rc;
    exo_device_info all[MAX_DEVICES];
    size_t n = 0, i;
    exo_error err = {0};
    if (exo_backend_cpu.list_devices(all, MAX_DEVICES, &n, &err) != EXO_OK) {
        return exo_cli_fail(&err);
    }
    json_t *list = json_array(), *d;
    for (i = 0; i < n; i++) json_array_append_new(list, cpu_json(&all[i]));
    exo_cli_vulkan_devices(list, again);
    if (as_json) return exo_cli_print_json(list);
    json_array_foreach(list, i, d) print_device(d);
    json_decref(list);
    return EXO_EXIT_OK;
}

const exo_command exo_cmd_devices = {
    .name = "devices",
    .summary = "list this machine's devices",
    .help = "usage: exo devices [--json] [--retry]\n\n"
            "Lists what exo can compute on here, and what it cannot and why.  A figure no sensor\n"
            "tells is null.  A GPU is tried out in a process of its own when it is first seen, or\n"
            "its driver or exo's kernels have changed; the verdict is kept in ~/.exo/vulkan.\n\n"
            "  --retry   try GPUs again (a variant that crashed stays out)\n\n"
            "  exo devices --json\n",
    .run = run,
};
