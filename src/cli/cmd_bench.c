/* cmd_bench.c - `exo bench`: prompt and decode speed of a model, beside the machine's own
 * measured read bandwidth.
 *
 * Drives one shard directly: prompt steps of one sequence, then decode steps of B sequences. */
#include "cli/cli.h"

#include "base/clock.h"
#include "base/host.h"
#include "base/mem.h"
#include "compute/cpu/bandwidth.h"
#include "engine/seat.h"

#include <stdio.h>

#define CHUNK_ROWS   512u
#define BANDWIDTH_MS 500u
#define PAGE         EXO_KV_PAGE_TOKENS
#define SETTLE_MS    120000u

typedef struct {
    const char *model, *device;
    uint32_t pp, tg, batch, threads, depth;
    bool kv_f16, kv_q8_0, times;
} bench_options;

typedef struct {
    exo_model *model;
    exo_seat seat;
    exo_shard *shard;
    exo_step step;
    uint32_t n_vocab, pages_per_seq, n_threads;
    double load_s, pp_s, tg_s, first_token_s;
    uint64_t *token_us; /* (tg) when each step of decoding ended; NULL: not asked */
} bench_state;

/* Any ids do: speed does not depend on them. */
static int32_t some_token(const bench_state *s, uint32_t seq, uint32_t pos) {
    return (int32_t)((seq * 7919u + pos * 104729u + 13u) % s->n_vocab);
}

static void add_row(bench_state *s, uint32_t seq, uint32_t pos, uint32_t flags) {
    if (pos % PAGE == 0) {
        uint32_t index = pos / PAGE;
        s->step.pages[s->step.n_pages++] =
            (exo_page_entry){seq, index, seq * s->pages_per_seq + index};
    }
    s->step.rows[s->step.n_rows++] = (exo_row){seq, pos, some_token(s, seq, pos), flags};
}

static exo_status run_step(bench_state *s, exo_error *err) {
    s->step.number++;
    return exo_shard_run(s->shard, &s->step, NULL, NULL, NULL, err);
}

static exo_status read_prompt(bench_state *s, uint32_t seq, uint32_t n, exo_error *err) {
    for (uint32_t at = 0; at < n;) {
        exo_step_clear(&s->step);
        for (uint32_t i = 0; i < CHUNK_ROWS && at < n; i++, at++) {
            add_row(s, seq, at, EXO_ROW_PROMPT | (at + 1 == n ? EXO_ROW_LOGITS : 0u));
        }
        exo_status st = run_step(s, err);
        if (st != EXO_OK) return st;
    }
    return EXO_OK;
}

static exo_status decode(bench_state *s, const bench_options *o, uint32_t pos, exo_error *err) {
    exo_step_clear(&s->step);
    for (uint32_t seq = 0; seq < o->batch; seq++) add_row(s, seq, pos, EXO_ROW_LOGITS);
    return run_step(s, err);
}

/* Gives every sequence the pages of the first `depth` positions, as if they had been read:
 * any numbers, but in memory of their own.  Pages are handed out one step at a time. */
static exo_status pretend(bench_state *s, const bench_options *o, exo_error *err) {
    exo_status st = exo_shard_pretend_kv(s->shard, err);
    for (uint32_t pos = 0; pos < o->depth && st == EXO_OK; pos += PAGE) {
        exo_step_clear(&s->step);
        for (uint32_t seq = 0; seq < o->batch; seq++) {
            add_row(s, seq, pos, 0);
        }
        s->step.n_rows = 0;
        st = run_step(s, err);
    }
    return st;
}

static exo_status load(bench_state *s, const bench_options *o, exo_error *err) {
    uint64_t begin = exo_now_us();
    uint32_t ctx = o->pp + o->depth + o->tg + 2;
    exo_status st = exo_cli_open_model(o->model, &s->model, err);
    if (st != EXO_OK) return st;
    const exo_hparams *h = exo_model_hparams(s->model);
    s->n_vocab = h->n_vocab;
    s->pages_per_seq = (ctx + PAGE - 1) / PAGE;
    if (ctx > h->ctx_train) {
        return exo_error_set(err, EXO_ETOOLONG,
                             "--pp, --depth and --tg need %u tokens, the model has %u", ctx,
                             h->ctx_train);
    }
    exo_shard_desc d = {.layer_end = h->n_layers,
                        .has_embedding = true,
                        .has_head = true,
                        .kv_type = exo_kv_type_of(o->kv_f16, o->kv_q8_0),
                        .ctx_tokens = ctx,
                        .max_seqs = o->batch,
                        .max_rows = CHUNK_ROWS,
                        .n_pages = s->pages_per_seq * o->batch};
    exo_bar bar = {.what = "loading"};
    exo_seat_desc seat = {.device = o->device,
                          .n_threads = o->threads,
                          .model = s->model,
                          .shard = d,
                          .progress = exo_cli_progress,
                          .ud = &bar};
    st = exo_seat_open(&s->seat, &seat, &s->shard, err);
    exo_cli_progress_end(&bar);
    s->seat.d.progress = NULL;
    exo_device_info cpu = {0};
    if (st == EXO_OK) st = exo_device_describe("cpu:0", &cpu, err);
    s->n_threads = o->threads != 0 ? o->threads : cpu.compute_units;
    if (st == EXO_OK) st = exo_step_init(&s->step, CHUNK_ROWS, CHUNK_ROWS, err);
    s->load_s = (double)(exo_now_us() - begin) * 1e-6;
    return st;
}

static exo_status try_measure(bench_state *s, const bench_options *o, exo_error *err) {
    exo_status st = decode(s, o, 0, err); /* touches all weights once */
    if (s->first_token_s == 0) s->first_token_s = (double)exo_host_process_us() * 1e-6;
    /* what writes weights takes time from what is measured */
    exo_shard_settle(s->shard, SETTLE_MS);
    uint64_t begin = exo_now_us();
    if (st == EXO_OK && o->pp > 0) st = read_prompt(s, 0, o->pp, err);
    s->pp_s = (double)(exo_now_us() - begin) * 1e-6;
    for (uint32_t seq = 1; seq < o->batch && o->pp > 0 && st == EXO_OK; seq++) {
        st = read_prompt(s, seq, o->pp, err);
    }
    if (st == EXO_OK && o->depth > 0) st = pretend(s, o, err);
    uint32_t from = o->depth > 0 ? o->depth : o->pp;
    begin = exo_now_us();
    for (uint32_t i = 0; i < o->tg && st == EXO_OK; i++) {
        st = decode(s, o, from + i, err);
        if (s->token_us != NULL) s->token_us[i] = exo_now_us();
    }
    s->tg_s = (double)(exo_now_us() - begin) * 1e-6;
    return st;
}

/* A device that fails in between is no result: the CPU is measured from the beginning. */
static exo_status measure(bench_state *s, const bench_options *o, exo_error *err) {
    exo_error why = {0};
    exo_status st = try_measure(s, o, &why);
    if (exo_seat_can_move(&s->seat, st)) {
        st = exo_seat_move(&s->seat, s->shard, why.message, &s->shard, err);
        return st == EXO_OK ? try_measure(s, o, err) : st;
    }
    if (st != EXO_OK) *err = why;
    return st;
}

/* Seconds of the clock that runs since the machine began. */
static json_t *times_json(const bench_state *s, const bench_options *o) {
    if (s->token_us == NULL) return NULL;
    json_t *list = json_array();
    for (uint32_t i = 0; i < o->tg; i++) {
        json_array_append_new(list, json_real((double)s->token_us[i] * 1e-6));
    }
    return list;
}

static int print_result(const bench_state *s, const bench_options *o, bool as_json) {
    double pp_tps = s->pp_s > 0 ? o->pp / s->pp_s : 0;
    double tg_tps = s->tg_s > 0 ? (double)o->tg * o->batch / s->tg_s : 0;
    double weights = (double)exo_shard_weight_bytes(s->shard);
    uint64_t rss = exo_cli_rss_bytes(); /* before the bandwidth buffers */
    double peak = exo_cpu_read_bandwidth(s->n_threads, BANDWIDTH_MS);
    double read = s->tg_s > 0 ? weights * o->tg / s->tg_s / 1e9 : 0;
    if (as_json) {
        return exo_cli_print_json(json_pack(
            "{s:f, s:f, s:f, s:f, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:i, s:i, s:s, s:s?, s:o*}",
            "pp_tps", pp_tps, "tg_tps", tg_tps, "load_s", s->load_s, "first_token_s",
            s->first_token_s, "weights_bytes", (json_int_t)weights, "mapped_bytes",
            (json_int_t)exo_shard_mapped_bytes(s->shard), "kv_bytes",
            (json_int_t)exo_shard_kv_bytes(s->shard), "rss_bytes", (json_int_t)rss, "read_gbps",
            read, "peak_read_gbps", peak, "read_share", peak > 0 ? read / peak : 0, "threads",
            (int)s->n_threads, "batch", (int)o->batch, "device", s->seat.device_id, "device_reason",
            s->seat.reason[0] != '\0' ? s->seat.reason : NULL, "token_times_s", times_json(s, o)));
    }
    printf("prompt %u tokens   %.1f tokens/s\n", o->pp, pp_tps);
    printf("decode %u x %u      %.1f tokens/s\n", o->batch, o->tg, tg_tps);
    printf("weights read       %.1f GB/s of %.1f measured (%.0f %%)\n", read, peak,
           peak > 0 ? 100 * read / peak : 0);
    printf("load %.2f s, from exec to the first token %.2f s\n", s->load_s, s->first_token_s);
    printf("weights %.1f MB, of them mapped %.1f MB; resident %.1f MB\n", weights / 1e6,
           (double)exo_shard_mapped_bytes(s->shard) / 1e6, (double)rss / 1e6);
    return EXO_EXIT_OK;
}

static int run(int argc, char **argv) {
    const exo_command *c = &exo_cmd_bench;
    bench_options o = {.device = "cpu:0", .pp = 512, .tg = 128, .batch = 1};
    const char *pp = NULL, *tg = NULL, *batch = NULL, *threads = NULL, *depth = NULL, *kv = NULL;
    bool as_json = false, pin = false, numa = false;
    const exo_option options[] = {
        {.name = "m", .value = &o.model},       {.name = "pp", .value = &pp},
        {.name = "tg", .value = &tg},           {.name = "depth", .value = &depth},
        {.name = "batch", .value = &batch},     {.name = "device", .value = &o.device},
        {.name = "threads", .value = &threads}, {.name = "kv-f16", .seen = &o.kv_f16},
        {.name = "json", .seen = &as_json},     {.name = "kv", .value = &kv},
        {.name = "times", .seen = &o.times},    {.name = "pin", .seen = &pin},
        {.name = "numa", .seen = &numa},        {0}};
    int rc = exo_cli_parse(c, argc, argv, options, NULL, 0);
    if (rc != EXO_EXIT_OK) return rc;
    if (o.model == NULL) return exo_cli_usage(c, "-m MODEL is missing");
    if (!exo_cli_device(c, o.device) || !exo_cli_kv(c, kv, &o.kv_f16, &o.kv_q8_0)) {
        return EXO_EXIT_USAGE;
    }
    if (!exo_cli_u32(c, "pp", pp, 0, 1u << 20, &o.pp) ||
        !exo_cli_u32(c, "tg", tg, 0, 1u << 20, &o.tg) ||
        !exo_cli_u32(c, "depth", depth, 0, 1u << 20, &o.depth) ||
        !exo_cli_u32(c, "batch", batch, 1, 64, &o.batch) ||
        !exo_cli_u32(c, "threads", threads, 1, 1024, &o.threads) || !exo_cli_place(pin, numa)) {
        return EXO_EXIT_USAGE;
    }
    exo_error err = {0};
    bench_state s = {0};
    exo_status st = EXO_OK;
    if (o.times) {
        s.token_us = exo_calloc(o.tg, sizeof *s.token_us);
        if (s.token_us == NULL) st = exo_error_set(&err, EXO_ENOMEM, "no memory for times");
    }
    if (st == EXO_OK) st = load(&s, &o, &err);
    if (st == EXO_OK) st = measure(&s, &o, &err);
    rc = st == EXO_OK ? print_result(&s, &o, as_json) : exo_cli_fail(&err);
    exo_step_finish(&s.step);
    exo_shard_destroy(s.shard);
    exo_seat_close(&s.seat);
    exo_model_unref(s.model);
    exo_free(s.token_us);
    return rc;
}

const exo_command exo_cmd_bench = {
    .name = "bench",
    .summary = "measure a model's speed on this machine",
    .help = "usage: exo bench -m MODEL [--pp N] [--tg N] [--batch B] [--threads N] [--kv TYPE]\n"
            "                 [--depth N] [--device D] [--pin] [--numa] [--json [--times]]\n\n"
            "  --pp N      prompt tokens (default 512)\n"
            "  --tg N      tokens to decode after it (default 128)\n"
            "  --batch B   sequences decoded together (default 1)\n"
            "  --depth N   decode behind N positions that count as read (default: behind --pp)\n"
            "  --kv TYPE   keys and values in f32 (default), f16 or q8_0; --kv-f16 is --kv f16\n"
            "  --pin       bind each thread but the first to a core of its own\n"
            "  --numa      place threads and weights on all memory nodes\n"
            "  --times     with --json: when each step of decoding ended (seconds since boot)\n\n"
            "read_gbps is the rate at which decoding reads weights; peak_read_gbps is what plain\n"
            "reading reaches on this machine with as many threads, measured in the same run.\n\n"
            "  exo bench -m tiny --pp 256 --tg 64 --json\n",
    .run = run,
};
