/* cmd_devices.c - `exo devices`: what this machine can compute on. */
#include "cli/cli.h"
#include "compute/backend.h"

#include <math.h>
#include <stdio.h>

#define MAX_DEVICES 64

static json_t *number_or_null(double v) { return isnan(v) ? json_null() : json_real(v); }

static json_t *device_json(const exo_device_info *d) {
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:i, s:I, s:I, s:o, s:o, s:o}", "device_id", d->id, "name", d->name,
        "vendor", d->vendor, "driver_version", d->driver, "compute_units", (int)d->compute_units,
        "memory_total_bytes", (json_int_t)d->memory_bytes, "memory_available_bytes",
        (json_int_t)d->memory_available_bytes, "clock_rate_mhz", number_or_null(d->clock_mhz),
        "temperature_celsius", number_or_null(d->temperature_celsius), "power_watts",
        number_or_null(d->power_watts));
}

static int run(int argc, char **argv) {
    bool as_json = false;
    const exo_option options[] = {{.name = "json", .seen = &as_json}, {0}};
    int rc = exo_cli_parse(&exo_cmd_devices, argc, argv, options, NULL, 0);
    if (rc != EXO_EXIT_OK) return rc;
    exo_device_info all[MAX_DEVICES];
    size_t n = 0;
    exo_error err = {0};
    if (exo_backend_cpu.list_devices(all, MAX_DEVICES, &n, &err) != EXO_OK) {
        return exo_cli_fail(&err);
    }
    if (as_json) {
        json_t *list = json_array();
        for (size_t i = 0; i < n; i++) json_array_append_new(list, device_json(&all[i]));
        return exo_cli_print_json(list);
    }
    for (size_t i = 0; i < n; i++) {
        const exo_device_info *d = &all[i];
        printf("%-10s %s, %u cores, %s, %.1f of %.1f GiB free\n", d->id, d->name, d->compute_units,
               d->driver, (double)d->memory_available_bytes / 0x1p30,
               (double)d->memory_bytes / 0x1p30);
    }
    return EXO_EXIT_OK;
}

const exo_command exo_cmd_devices = {
    .name = "devices",
    .summary = "list this machine's devices",
    .help = "usage: exo devices [--json]\n\n"
            "Lists what exo can compute on here.  A figure no sensor tells is null.\n\n"
            "  exo devices --json\n",
    .run = run,
};
