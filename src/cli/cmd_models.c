/* cmd_models.c - `exo models`: what is there, finished and unfinished; `exo models rm ID`. */
#include "cli/cli.h"
#include "model/file_type.h"
#include "node/store.h"

#include <stdio.h>
#include <string.h>

/* One listing; with table, lines are printed as they come. */
typedef struct {
    json_t *models, *partials;
    bool table;
    size_t n;
} listing;

/* Names come from files: what could steer a terminal is shown as \xNN. */
static const char *printable(const char *s, char *out, size_t cap) {
    size_t n = 0;
    for (; *s != '\0' && n + 5 <= cap; s++) {
        unsigned char c = (unsigned char)*s, next = (unsigned char)s[1];
        bool c1 = c == 0xC2 && next >= 0x80 && next < 0xA0;
        if (c < 0x20 || c == 0x7F || c1) {
            n += (size_t)snprintf(out + n, cap - n, "\\x%02X", c1 ? next : c);
            s += c1;
        } else {
            out[n++] = *s;
        }
    }
    out[n] = '\0';
    return out;
}

static void print_row(listing *l, const char *id, uint64_t bytes, const char *quant,
                      const char *arch, const char *path) {
    char names[3][4096];
    id = printable(id, names[0], sizeof names[0]);
    arch = printable(arch, names[1], sizeof names[1]);
    path = printable(path, names[2], sizeof names[2]);
    if (l->n++ == 0) printf("%-40s %10s  %-8s %-10s %s\n", "ID", "SIZE", "TYPE", "ARCH", "PATH");
    printf("%-40s %7.1f MB  %-8s %-10s %s\n", id, (double)bytes / 1e6, quant, arch, path);
}

static void list_model(void *ud, const char *id, const char *path) {
    listing *l = ud;
    exo_gguf *g = NULL;
    exo_error err = {0};
    exo_str arch = {0};
    char arch_name[64] = "";
    if (exo_cli_open_file(strcmp(id, "tiny") == 0 ? id : path, &g, &err) != EXO_OK) {
        if (l->table) print_row(l, id, 0, "-", "-", err.message);
        json_array_append_new(
            l->models, json_pack("{s:s, s:s, s:s}", "id", id, "path", path, "error", err.message));
        return;
    }
    if (exo_gguf_str(g, "general.architecture", &arch)) {
        snprintf(arch_name, sizeof arch_name, "%.*s", (int)(arch.n < 63 ? arch.n : 63), arch.s);
    }
    const char *quant = exo_file_type_of(g);
    if (l->table) print_row(l, id, exo_gguf_bytes(g), quant, arch_name, path);
    json_array_append_new(l->models, json_pack("{s:s, s:s, s:I, s:s, s:s}", "id", id, "path", path,
                                               "bytes", (json_int_t)exo_gguf_bytes(g), "type",
                                               quant, "architecture", arch_name));
    exo_gguf_close(g);
}

static void list_partial(void *ud, const exo_partial *p) {
    listing *l = ud;
    if (l->table) {
        char id[1024], ref[1024];
        printf("%-40s %7.1f MB  of %.1f MB%s%s\n", printable(p->id, id, sizeof id),
               (double)p->done_bytes / 1e6, (double)p->total_bytes / 1e6,
               p->active ? ", being pulled" : ", unfinished: exo pull ",
               p->active ? "" : printable(p->ref, ref, sizeof ref));
    }
    json_array_append_new(l->partials, json_pack("{s:s, s:s, s:s, s:I, s:I, s:b}", "id", p->id,
                                                 "ref", p->ref, "path", p->path, "done_bytes",
                                                 (json_int_t)p->done_bytes, "total_bytes",
                                                 (json_int_t)p->total_bytes, "active", p->active));
}

static int list(const char *data_dir, bool as_json) {
    listing l = {.models = json_array(), .partials = json_array(), .table = !as_json};
    exo_models_each(data_dir, list_model, &l);
    exo_store_partials(data_dir, list_partial, &l);
    if (as_json) {
        return exo_cli_print_json(
            json_pack("{s:o, s:o}", "models", l.models, "partials", l.partials));
    }
    json_decref(l.models);
    json_decref(l.partials);
    return EXO_EXIT_OK;
}

static int run(int argc, char **argv) {
    const exo_command *c = &exo_cmd_models;
    const char *words[2], *data_dir = NULL;
    bool as_json = false;
    const exo_option options[] = {
        {.name = "json", .seen = &as_json}, {.name = "data-dir", .value = &data_dir}, {0}};
    int rc = exo_cli_parse(c, argc, argv, options, words, 2);
    if (rc != EXO_EXIT_OK) return rc;
    if (data_dir == NULL) data_dir = exo_cli_data_dir();
    if (words[0] == NULL) return list(data_dir, as_json);
    if (strcmp(words[0], "rm") != 0) return exo_cli_usage(c, "unexpected \"%s\"", words[0]);
    if (words[1] == NULL) return exo_cli_usage(c, "remove which model?");
    exo_error err = {0};
    if (exo_store_remove(data_dir, words[1], &err) != EXO_OK) return exo_cli_fail(&err);
    printf("removed %s\n", words[1]);
    return EXO_EXIT_OK;
}

const exo_command exo_cmd_models = {
    .name = "models",
    .summary = "list the models of this machine, or remove one",
    .help = "usage: exo models [--json] [--data-dir D]\n"
            "       exo models rm ID [--data-dir D]\n\n"
            "Lists what EXO_MODELS_DIRS and the data directory's models/ hold, and pulls that are\n"
            "not finished.  rm removes a model, or what an unfinished pull left, from the data\n"
            "directory; models elsewhere are not touched.\n\n"
            "  exo models --json\n",
    .run = run,
};
