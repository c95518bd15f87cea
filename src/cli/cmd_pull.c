/* cmd_pull.c - `exo pull`: a model from a hub into the data directory, with a progress line. */
#define _DEFAULT_SOURCE /* isatty */
#include "base/clock.h"
#include "cli/cli.h"
#include "cli/local.h"
#include "node/pull.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BAR_WIDTH      24
#define DRAW_EVERY_MS  200
#define LINE_EVERY_MS  10000 /* where stderr is no terminal */
#define RATE_WINDOW_MS 5000

/* What was drawn when, and from where the rate is measured. */
typedef struct {
    bool tty, drawn;
    uint64_t drawn_ms, mark_ms, mark_done;
    double bytes_per_s;
} display;

static void measure(display *d, uint64_t now, uint64_t done) {
    if (d->mark_ms == 0 || done < d->mark_done) {
        d->mark_ms = now;
        d->mark_done = done;
    }
    uint64_t ms = now - d->mark_ms;
    if (ms < DRAW_EVERY_MS) return;
    d->bytes_per_s = (double)(done - d->mark_done) * 1000.0 / (double)ms;
    if (ms < RATE_WINDOW_MS) return;
    d->mark_ms = now;
    d->mark_done = done;
}

static void format_time(double seconds, char out[32]) {
    if (!(seconds < 360000)) {
        snprintf(out, 32, "--:--");
    } else if (seconds >= 3600) {
        snprintf(out, 32, "%d h %02d min", (int)(seconds / 3600), (int)(seconds / 60) % 60);
    } else {
        snprintf(out, 32, "%d:%02d", (int)(seconds / 60), (int)seconds % 60);
    }
}

static void format_line(const display *d, const exo_pull_status *s, char *out, size_t cap) {
    uint64_t done = s->phase == EXO_DOWNLOAD_CHECKING ? s->file_done : s->done;
    uint64_t total = s->phase == EXO_DOWNLOAD_CHECKING || s->total == 0 ? s->file_total : s->total;
    char left[32], bar[BAR_WIDTH + 1], nth[32] = "";
    double part = total > 0 ? (double)done / (double)total : 0;
    int full = (int)(part * BAR_WIDTH);
    for (int i = 0; i < BAR_WIDTH; i++) bar[i] = i < full ? '#' : '.';
    bar[BAR_WIDTH] = '\0';
    format_time(d->bytes_per_s > 0 ? (double)(total - done) / d->bytes_per_s : 1e9, left);
    if (s->n > 1) snprintf(nth, sizeof nth, " (%zu of %zu)", s->i + 1, s->n);
    const char *what = s->phase == EXO_DOWNLOAD_CHECKING  ? "checking "
                       : s->phase == EXO_DOWNLOAD_WAITING ? "waiting: "
                                                          : "";
    if (s->file[0] == '\0' || total == 0) {
        snprintf(out, cap, "asking the hub");
    } else {
        snprintf(out, cap, "%s%.40s%s [%s] %3d %%  %.1f of %.1f MB  %.1f MB/s  %s left", what,
                 s->file, nth, bar, (int)(part * 100), (double)done / 1e6, (double)total / 1e6,
                 d->bytes_per_s / 1e6, left);
    }
}

static bool on_progress(void *ud, const exo_pull_status *s) {
    display *d = ud;
    uint64_t now = exo_now_ms();
    if (exo_cli_interrupted()) return false;
    measure(d, now, s->phase == EXO_DOWNLOAD_CHECKING ? s->file_done : s->done);
    if (d->drawn_ms == 0) d->drawn_ms = d->tty ? 1 : now;
    if (now - d->drawn_ms < (d->tty ? DRAW_EVERY_MS : LINE_EVERY_MS)) return true;
    char line[256];
    format_line(d, s, line, sizeof line);
    fprintf(stderr, d->tty ? "\r%s\033[K" : "%s\n", line);
    fflush(stderr);
    d->drawn_ms = now;
    d->drawn = true;
    return true;
}

static int print_result(const exo_pull_result *r, bool as_json) {
    if (as_json) {
        return exo_cli_print_json(json_pack("{s:s, s:s, s:I, s:i, s:b}", "id", r->id, "path",
                                            r->path, "bytes", (json_int_t)r->bytes, "files",
                                            (int)r->n_files, "was_there", r->was_there));
    }
    printf("%s: %.1f MB %s %s\n", r->id, (double)r->bytes / 1e6,
           r->was_there ? "already in" : "now in", r->path);
    return EXO_EXIT_OK;
}

/* The cluster sees to it from here on: the node fetches it, whatever happens meanwhile. */
static int hand_over(const char *ref, const char *node, const char *data_dir) {
    exo_error err = {0};
    json_t *state = NULL, *reply = NULL;
    char id[EXO_NODE_ID_BYTES];
    exo_status st = exo_cli_local_state(data_dir, &state, &err);
    if (st == EXO_OK) st = exo_cli_find_node(state, node, id, &err);
    if (st == EXO_OK) {
        st = exo_cli_local_post(data_dir, "/download/start",
                                json_pack("{s:s, s:s}", "model_id", ref, "node_id", id), &reply,
                                &err);
    }
    if (st == EXO_OK) printf("%s fetches %s; GET /state shows how far it is\n", node, ref);
    json_decref(reply);
    json_decref(state);
    return st == EXO_OK ? EXO_EXIT_OK : exo_cli_fail(&err);
}

static int run(int argc, char **argv) {
    const exo_command *c = &exo_cmd_pull;
    const char *ref[1], *connections = NULL, *stall = NULL, *data_dir = NULL, *node = NULL;
    bool as_json = false;
    const exo_option options[] = {{.name = "connections", .value = &connections},
                                  {.name = "timeout", .value = &stall},
                                  {.name = "data-dir", .value = &data_dir},
                                  {.name = "on", .value = &node},
                                  {.name = "json", .seen = &as_json},
                                  {0}};
    int rc = exo_cli_parse(c, argc, argv, options, ref, 1);
    if (rc != EXO_EXIT_OK) return rc;
    if (ref[0] == NULL) return exo_cli_usage(c, "which model?");
    exo_hub_ref parsed;
    exo_error err = {0};
    if (exo_hub_ref_parse(ref[0], &parsed, &err) != EXO_OK) {
        exo_cli_fail(&err);
        return EXO_EXIT_USAGE;
    }
    if (node != NULL) {
        return hand_over(ref[0], node, data_dir != NULL ? data_dir : exo_cli_data_dir());
    }
    display d = {.tty = isatty(STDERR_FILENO) != 0};
    exo_pull_desc desc = {.data_dir = data_dir != NULL ? data_dir : exo_cli_data_dir(),
                          .progress = on_progress,
                          .ud = &d};
    if (!exo_cli_u32(c, "connections", connections, 1, 16, &desc.n_connections) ||
        !exo_cli_u32(c, "timeout", stall, 1, 3600, &desc.stall_s)) {
        return EXO_EXIT_USAGE;
    }
    exo_pull_result result;
    exo_cli_catch_signals();
    exo_status st = exo_pull(ref[0], &desc, &result, &err);
    if (d.tty && d.drawn) fprintf(stderr, "\r\033[K");
    if (st == EXO_ECANCELED) {
        exo_error_set(&err, st, "stopped; the same command goes on from here");
    }
    return st == EXO_OK ? print_result(&result, as_json) : exo_cli_fail(&err);
}

const exo_command exo_cmd_pull = {
    .name = "pull",
    .summary = "fetch a model from Hugging Face or an address",
    .help = "usage: exo pull MODEL [OPTIONS]\n\n"
            "MODEL is one of\n"
            "  hf:OWNER/REPO                     its Q4_K_M, or what comes nearest\n"
            "  hf:OWNER/REPO:Q8_0                a quantisation (or: safetensors)\n"
            "  hf:OWNER/REPO:FILE.gguf           a file; of a split model any part\n"
            "  hf:OWNER/REPO@REVISION:...        from a branch, tag or commit\n"
            "  https://HOST/PATH/FILE.gguf       any address\n\n"
            "The model goes into the data directory's models/ once it is whole and its sha256 is\n"
            "right.  A stopped pull goes on where it was when the command is given again.\n"
            "  --connections N   at once (default 4)\n"
            "  --timeout S       give a connection up that sends nothing for S seconds (30)\n"
            "  --data-dir D      default: EXO_HOME or ~/.exo\n"
            "  --on NODE         hand it to a running node of this cluster (name or id): the cluster\n"
            "                    remembers it, restarts go on with it\n"
            "  --json            the result as JSON\n\n"
            "HF_ENDPOINT names another hub; HF_TOKEN is sent to the hub only; EXO_OFFLINE=1\n"
            "refuses.\n\n"
            "  exo pull hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q4_K_M\n",
    .run = run,
};
