/* cmd_convert.c - `exo convert`: safetensors or GGUF to one GGUF file, in any weight type. */
#define _DEFAULT_SOURCE /* sysconf */
#include "cli/cli.h"
#include "model/convert.h"
#include "model/mix.h"
#include "model/paths.h"
#include "model/tokenizer.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static uint32_t n_cores(void) {
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 && n < 256 ? (uint32_t)n : 1;
}

/* Writing over the file that is being read would lose both. */
static exo_status check_other(const char *model, const char *out, exo_error *err) {
    struct stat a, b;
    char path[4096];
    if (exo_models_resolve(model, exo_cli_data_dir(), path, sizeof path, NULL) != EXO_OK ||
        stat(path, &a) != 0 || stat(out, &b) != 0) {
        return EXO_OK;
    }
    if (a.st_dev != b.st_dev || a.st_ino != b.st_ino) return EXO_OK;
    return exo_error_set(err, EXO_EINVAL, "%s is the model itself: write to another file",
                         exo_path_tail(out));
}

/* What contradicts itself is not written again. */
static exo_status open_source(const char *name, exo_model **m, exo_gguf **bare, exo_error *err) {
    char path[4096];
    exo_status st = exo_models_resolve_given(name, exo_cli_data_dir(), path, sizeof path, err);
    return st == EXO_OK ? exo_cli_open_checked(path, m, bare, err) : st;
}

static int run(int argc, char **argv) {
    const exo_command *c = &exo_cmd_convert;
    const char *model[1], *out = NULL, *threads = NULL;
    exo_bar bar = {.what = "converting"};
    exo_convert_desc d = {.n_threads = n_cores(), .progress = exo_cli_progress, .ud = &bar};
    const exo_option options[] = {{.name = "o", .value = &out},
                                  {.name = "type", .value = &d.type},
                                  {.name = "threads", .value = &threads},
                                  {0}};
    int rc = exo_cli_parse(c, argc, argv, options, model, 1);
    if (rc != EXO_EXIT_OK) return rc;
    if (model[0] == NULL) return exo_cli_usage(c, "which model?");
    if (out == NULL) return exo_cli_usage(c, "-o FILE is missing");
    if (d.type != NULL && exo_mix_find(d.type) == NULL) {
        exo_dtype type;
        bool read_only = exo_dtype_parse(d.type, &type) == EXO_OK;
        return exo_cli_usage(
            c, read_only ? "type \"%.32s\" is read, but not made" : "unknown type \"%.32s\"",
            d.type);
    }
    if (!exo_cli_u32(c, "threads", threads, 1, 256, &d.n_threads)) return EXO_EXIT_USAGE;
    char name[256];
    size_t n;
    const char *id = exo_path_id(model[0], &n);
    snprintf(name, sizeof name, "%.*s", (int)(n < 200 ? n : 200), id);
    d.name = name;
    exo_error err = {0};
    exo_model *m = NULL;
    exo_gguf *bare = NULL;
    exo_cli_catch_signals();
    exo_status st = check_other(model[0], out, &err);
    if (st == EXO_OK) st = open_source(model[0], &m, &bare, &err);
    const exo_gguf *g = m != NULL ? exo_model_file(m) : bare;
    if (st == EXO_OK) st = exo_convert(g, &d, out, &err);
    exo_cli_progress_end(&bar);
    if (st == EXO_OK && exo_tokenizer_is_own(g))
        fprintf(stderr, "exo: note: GGUF has no name for this tokenizer.json: its description is "
                        "in the file for exo, other programs refuse it\n");
    exo_gguf_close(bare);
    exo_model_unref(m);
    return st == EXO_OK ? EXO_EXIT_OK : exo_cli_fail(&err);
}

const exo_command exo_cmd_convert = {
    .name = "convert",
    .summary = "write a model as one GGUF file, in another weight type",
    .help =
        "usage: exo convert MODEL -o FILE.gguf [--type TYPE] [--threads N]\n\n"
        "MODEL is a folder with config.json, safetensors and tokenizer.json, a GGUF file (of a\n"
        "split one any part), or a model's id.  Without --type every tensor keeps its type.\n"
        "  --type   f32 f16 bf16 q4_0 q4_1 q5_0 q5_1 q8_0 q2_K q3_K_S q3_K_M q3_K_L q4_K_S\n"
        "           q4_K_M q5_K_S q5_K_M q6_K iq4_nl iq4_xs mxfp4_moe; as in llama.cpp q3_K,\n"
        "           q4_K and q5_K are their _M, mxfp4 is mxfp4_moe\n"
        "  --threads N   default: all cores\n\n"
        "The file is there when it is whole.  Quantised weights can be quantised again, but\n"
        "lose more than when made from the original ones.\n\n"
        "  exo convert ./Qwen3-0.6B -o qwen3-0.6b-q4_K_M.gguf --type q4_K_M\n",
    .run = run,
};
