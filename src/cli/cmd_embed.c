/* cmd_embed.c - `exo embed`: a text, or token ids, to one vector of length 1. */
#include "cli/cli.h"

#include "base/mem.h"
#include "engine/embed.h"
#include "model/tokenizer.h"

#include <stdio.h>
#include <string.h>

#define MAX_IDS_BYTES (1u << 20)

/* "[1, 2, 3]" */
static exo_status parse_ids(const char *text, exo_ids *ids, exo_error *err) {
    json_error_t where;
    size_t i;
    json_t *list = strlen(text) <= MAX_IDS_BYTES ? json_loads(text, 0, &where) : NULL, *item;
    exo_status st = EXO_OK;
    if (!json_is_array(list)) st = exo_error_set(err, EXO_EINVAL, "--ids is no JSON array");
    ids->ids = st == EXO_OK ? exo_calloc(json_array_size(list) + 1, sizeof *ids->ids) : NULL;
    if (st == EXO_OK && ids->ids == NULL) st = exo_error_set(err, EXO_ENOMEM, "out of memory");
    json_array_foreach(list, i, item) {
        json_int_t v = json_integer_value(item);
        if (st != EXO_OK) break;
        if (!json_is_integer(item) || v < 0 || v > INT32_MAX) {
            st = exo_error_set(err, EXO_EINVAL, "--ids[%zu] is no token id", i);
        } else {
            ids->ids[ids->n++] = (int32_t)v;
        }
    }
    json_decref(list);
    return st;
}

static int print_vector(const float *v, uint32_t n, const exo_ids *ids, bool as_json) {
    json_t *list = json_array(), *numbers = json_array();
    for (uint32_t i = 0; i < n; i++) json_array_append_new(list, json_real((double)v[i]));
    for (size_t i = 0; i < ids->n; i++) json_array_append_new(numbers, json_integer(ids->ids[i]));
    if (as_json) {
        return exo_cli_print_json(
            json_pack("{s:o, s:o}", "prompt_ids", numbers, "embedding", list));
    }
    json_decref(numbers);
    json_decref(list);
    for (uint32_t i = 0; i < n; i++) printf("%.7g\n", (double)v[i]);
    return EXO_EXIT_OK;
}

static int embed(const char *model, const char *text, const char *id_list, bool as_json,
                 exo_session_desc *d) {
    exo_error err = {0};
    exo_model *m = NULL;
    exo_embedder *e = NULL;
    exo_ids ids = {0};
    float *v = NULL;
    int rc = EXO_EXIT_FAILED;
    exo_bar bar = {.what = model};
    d->load_progress = exo_cli_progress;
    d->ud = &bar;
    exo_status st = exo_cli_open_model(model, &m, &err);
    if (st == EXO_OK && id_list != NULL) st = parse_ids(id_list, &ids, &err);
    if (st == EXO_OK && id_list == NULL) {
        st = exo_tokenize(exo_model_tokenizer(m), text, strlen(text), EXO_TOKENIZE_BOS, &ids, &err);
    }
    if (st == EXO_OK) st = exo_embedder_create(m, d, &e, &err);
    exo_cli_progress_end(&bar);
    d->ud = NULL; /* the bar is this function's */
    uint32_t n = st == EXO_OK ? exo_model_hparams(m)->n_embd : 0;
    if (st == EXO_OK) v = exo_calloc(n, sizeof *v);
    if (st == EXO_OK && v == NULL) st = exo_error_set(&err, EXO_ENOMEM, "out of memory");
    if (st == EXO_OK) st = exo_embedder_run(e, (exo_tokens){ids.ids, ids.n}, v, &err);
    rc = st == EXO_OK ? print_vector(v, n, &ids, as_json) : exo_cli_fail(&err);
    exo_free(v);
    exo_ids_finish(&ids);
    exo_embedder_destroy(e);
    exo_model_unref(m);
    return rc;
}

static int run(int argc, char **argv) {
    const exo_command *c = &exo_cmd_embed;
    const char *model = NULL, *text = NULL, *ids = NULL, *threads = NULL;
    bool as_json = false, pin = false, numa = false;
    exo_session_desc d = {0};
    const exo_option options[] = {{.name = "m", .value = &model},
                                  {.name = "p", .value = &text},
                                  {.name = "ids", .value = &ids},
                                  {.name = "device", .value = &d.device},
                                  {.name = "threads", .value = &threads},
                                  {.name = "pin", .seen = &pin},
                                  {.name = "numa", .seen = &numa},
                                  {.name = "json", .seen = &as_json},
                                  {0}};
    int rc = exo_cli_parse(c, argc, argv, options, NULL, 0);
    if (rc != EXO_EXIT_OK) return rc;
    if (model == NULL) return exo_cli_usage(c, "-m MODEL is missing");
    if ((text == NULL) == (ids == NULL)) return exo_cli_usage(c, "give -p TEXT or --ids JSON");
    if (!exo_cli_u32(c, "threads", threads, 1, 1024, &d.n_threads)) return EXO_EXIT_USAGE;
    if (!exo_cli_place(pin, numa)) return EXO_EXIT_USAGE;
    return embed(model, text, ids, as_json, &d);
}

const exo_command exo_cmd_embed = {
    .name = "embed",
    .summary = "turn a text into a vector",
    .help = "usage: exo embed -m MODEL (-p TEXT | --ids JSON) [--json] [--device D] [--threads N]\n"
            "                 [--pin] [--numa]\n\n"
            "The embedding of a text by a model made for it (bert, nomic-bert, or a decoder whose\n"
            "file names a pooling): one number a line, the vector has length 1.\n"
            "  --ids    token ids instead of a text: '[101, 2023, 102]'\n"
            "  --json   one object: prompt_ids and embedding\n\n"
            "  exo embed -m nomic-embed-text -p 'search_query: what is a GPU?'\n",
    .run = run,
};
