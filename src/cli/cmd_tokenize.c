/* cmd_tokenize.c - `exo tokenize`: standard input to token ids. */
#include "cli/cli.h"
#include "model/tokenizer.h"

#include <stdio.h>

#define MAX_TEXT_BYTES (1u << 30)

static json_t *ids_json(const exo_ids *ids) {
    json_t *list = json_array();
    for (size_t i = 0; i < ids->n && list != NULL; i++) {
        if (json_array_append_new(list, json_integer(ids->ids[i])) == 0) continue;
        json_decref(list);
        return NULL;
    }
    return list;
}

static void print_pieces(const exo_tokenizer *t, const exo_ids *ids) {
    for (size_t i = 0; i < ids->n; i++) {
        exo_str piece = exo_tokenizer_piece(t, ids->ids[i]);
        printf("%8d  %.*s\n", ids->ids[i], (int)piece.n, piece.s);
    }
}

/* Any GGUF with a vocabulary will do; weights are not needed. */
static int run(int argc, char **argv) {
    const char *model = NULL;
    bool no_special = false, as_json = false;
    const exo_option options[] = {{.name = "m", .value = &model},
                                  {.name = "no-special", .seen = &no_special},
                                  {.name = "json", .seen = &as_json},
                                  {0}};
    int rc = exo_cli_parse(&exo_cmd_tokenize, argc, argv, options, NULL, 0);
    if (rc != EXO_EXIT_OK) return rc;
    if (model == NULL) return exo_cli_usage(&exo_cmd_tokenize, "-m MODEL is missing");
    exo_error err = {0};
    exo_gguf *g = NULL;
    exo_tokenizer *t = NULL;
    exo_buf text = {0};
    exo_ids ids = {0};
    unsigned flags = no_special ? 0 : EXO_TOKENIZE_BOS | EXO_TOKENIZE_SPECIAL;
    exo_status st = exo_cli_open_file(model, &g, &err);
    if (st == EXO_OK) st = exo_tokenizer_create(g, &t, &err);
    if (st == EXO_OK) st = exo_cli_read_stdin(&text, MAX_TEXT_BYTES, &err);
    if (st == EXO_OK) st = exo_tokenize(t, exo_buf_str(&text), text.n, flags, &ids, &err);
    if (st != EXO_OK) {
        rc = exo_cli_fail(&err);
    } else if (as_json) {
        rc = exo_cli_print_json(ids_json(&ids));
    } else {
        print_pieces(t, &ids);
    }
    exo_ids_finish(&ids);
    exo_buf_finish(&text);
    exo_tokenizer_destroy(t);
    exo_gguf_close(g);
    return rc;
}

const exo_command exo_cmd_tokenize = {
    .name = "tokenize",
    .summary = "turn text into a model's token ids",
    .help = "usage: exo tokenize -m MODEL [--no-special] [--json] < text\n\n"
            "Reads text from standard input, byte for byte, and prints its token ids.\n"
            "  --no-special   add no BOS or EOS; text that spells a special token is plain text\n"
            "  --json         one JSON array of ids instead of a line per token\n\n"
            "  printf 'Once upon a time' | exo tokenize -m tiny --json\n",
    .run = run,
};
