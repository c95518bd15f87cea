/* cmd_check.c - `exo check FILE`: is this a well-formed model file? */
#include "cli/cli.h"

#include <inttypes.h>
#include <stdio.h>

static int run(int argc, char **argv) {
    const char *file[1];
    const exo_option options[] = {{0}};
    int rc = exo_cli_parse(&exo_cmd_check, argc, argv, options, file, 1);
    if (rc != EXO_EXIT_OK) return rc;
    if (file[0] == NULL) return exo_cli_usage(&exo_cmd_check, "which file?");
    exo_error err = {0};
    exo_model *m = NULL;
    exo_gguf *bare = NULL;
    if (exo_cli_open_checked(file[0], &m, &bare, &err) != EXO_OK) return exo_cli_fail(&err);
    const exo_gguf *g = m != NULL ? exo_model_file(m) : bare;
    exo_str arch = {0};
    if (!exo_gguf_str(g, "general.architecture", &arch) || arch.n == 0) {
        arch = (exo_str){.s = "none", .n = 4};
    }
    printf("%s: well-formed %s, architecture %.*s, %zu tensors, %" PRIu64 " bytes of weights%s\n",
           file[0], exo_gguf_is_foreign(g) ? "safetensors" : "GGUF", (int)arch.n, arch.s,
           exo_gguf_n_tensors(g), exo_gguf_bytes(g),
           m != NULL ? "" : " (only the structure was checked: no model that exo runs)");
    exo_gguf_close(bare);
    exo_model_unref(m);
    return EXO_EXIT_OK;
}

const exo_command exo_cmd_check = {
    .name = "check",
    .summary = "validate a model file",
    .help = "usage: exo check FILE\n\n"
            "Reads a GGUF file (all parts of a split one), or a folder of safetensors with their\n"
            "config.json and tokenizer.json, and checks every length, count, shape and offset, and "
            "that\n"
            "metadata, tensors and tokenizer fit together as running the model needs it.\n"
            "Exit code 0: well-formed; 1: one line says what is wrong.\n\n"
            "  exo check models/exo-tiny.gguf\n",
    .run = run,
};
