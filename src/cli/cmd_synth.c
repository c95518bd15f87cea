/* cmd_synth.c - `exo synth`: a random-weight model of a real shape. */
#include "cli/cli.h"
#include "model/synth.h"

#include <stdio.h>

static int run(int argc, char **argv) {
    const char *seed = NULL, *out = NULL, *layers = NULL;
    const char *settings[EXO_CLI_MAX_LIST];
    exo_synth_desc d = {.type = "q4_0", .seed = 1, .settings = settings};
    const exo_option options[] = {{.name = "shape", .value = &d.shape},
                                  {.name = "type", .value = &d.type},
                                  {.name = "seed", .value = &seed},
                                  {.name = "layers", .value = &layers},
                                  {.name = "o", .value = &out},
                                  {.name = "set", .list = settings, .n_list = &d.n_settings},
                                  {0}};
    int rc = exo_cli_parse(&exo_cmd_synth, argc, argv, options, NULL, 0);
    if (rc != EXO_EXIT_OK) return rc;
    if (d.shape == NULL || out == NULL) {
        return exo_cli_usage(&exo_cmd_synth, "--shape NAME and -o FILE are needed");
    }
    if (!exo_cli_u64(&exo_cmd_synth, "seed", seed, &d.seed)) return EXO_EXIT_USAGE;
    if (!exo_cli_u32(&exo_cmd_synth, "layers", layers, 1, EXO_MAX_LAYERS, &d.n_layers)) {
        return EXO_EXIT_USAGE;
    }
    exo_error err = {0};
    exo_bar bar = {.what = "writing"};
    exo_status st = exo_synth_write(&d, out, exo_cli_progress, &bar, &err);
    exo_cli_progress_end(&bar);
    if (st == EXO_OK) return EXO_EXIT_OK;
    int failed = exo_cli_fail(&err);
    return st == EXO_EINVAL ? EXO_EXIT_USAGE : failed;
}

const exo_command exo_cmd_synth = {
    .name = "synth",
    .summary = "write a random-weight model of a real shape, for tests and benchmarks",
    .help =
        "usage: exo synth --shape NAME [--type TYPE] [--seed S] [--layers N] [--set "
        "NAME=NUMBER]...\n"
        "                 -o FILE\n\n"
        "  --shape    stories-15m smollm2-135m qwen3-0.6b llama-3.2-1b qwen3-8b llama-3.1-8b\n"
        "             qwen3-30b-a3b llama-3.3-70b; small ones of every architecture:\n"
        "             test-256 (llama), test-qwen3, test-mixtral, test-gemma3, test-gpt-oss ...\n"
        "  --type     f32 f16 bf16 q4_0 q4_1 q5_0 q5_1 q8_0 q2_K q3_K q4_K q5_K q6_K iq4_nl "
        "iq4_xs\n"
        "             mxfp4 iq2_xxs iq2_xs iq2_s iq3_xxs iq3_s iq1_s iq1_m, or a mix as "
        "llama.cpp's:\n"
        "             q3_K_S q3_K_M q3_K_L q4_K_S q4_K_M q5_K_S q5_K_M (default q4_0)\n"
        "  --layers   fewer layers than the shape has, for a smaller file\n"
        "  --set      another number in the shape, as often as wanted: n_layers n_embd n_ff "
        "n_heads\n"
        "             n_kv_heads head_dim n_vocab ctx rope_base norm_eps rope_factor n_experts\n"
        "             n_experts_used; in small shapes also rope_dims window attn_scale\n"
        "             embedding_scale residual_scale logit_scale attn_softcap logit_softcap\n"
        "             n_ff_dense n_ff_shared n_dense_layers expert_scale\n\n"
        "The same shape, type and seed give the same bytes on every machine.\n\n"
        "  exo synth --shape llama-3.2-1b --type q4_0 -o llama-1b.gguf\n",
    .run = run,
};
