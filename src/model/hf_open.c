/* hf_open.c - the files of a folder, joined into one model.
 *
 * Owns the texts and the mappings until they are handed over; what the tensors in them become is
 * hf_tensors.c's.  What a text may make the parser build is limited before it is parsed. */
#define _DEFAULT_SOURCE
#include "model/hf_impl.h"

#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "model/gguf_part.h"
#include "model/paths.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define INDEX      "model.safetensors.index.json"
#define SINGLE     "model.safetensors"
#define MAX_FILES  1000
#define PATH_BYTES 4096

/* Real files: a config.json has hundreds of values, a chat template is under 100 KiB; the longest
 * lists of tokens and merges have 1.2 million entries; an index names up to 150000 tensors. */
const exo_hf_limits exo_hf_config_limits = {
    .bytes = 8u << 20,
    .json = {.depth = 64, .containers = 20000, .values = 600000, .string_bytes = 4u << 20}};
const exo_hf_limits exo_hf_tokenizer_limits = {
    .bytes = 128u << 20,
    .json = {.depth = 64, .containers = 1500000, .values = 6000000, .string_bytes = 16u << 20}};

typedef struct {
    const char *dir;
    const exo_hf_arch *arch;
    json_t *file;   /* config.json */
    json_t *config; /* of it what describes the text model */
    json_t *generation, *tokenizer, *tokenizer_config, *chat_template_json, *index, *pooling;
    exo_buf chat_template;
    exo_safetensors *files; /* (n_files) */
    const char **names;     /* (n_files) */
    exo_mapping *maps;      /* (n_files) */
    size_t n_files;
    exo_hf_tensors tensors;
} folder;

static bool join(char out[PATH_BYTES], const char *dir, const char *name) {
    int n = snprintf(out, PATH_BYTES, "%s/%s", dir, name);
    return n > 0 && n < PATH_BYTES;
}

bool exo_hf_is_folder(const char *path) {
    char file[PATH_BYTES];
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) return false;
    return join(file, path, "config.json") && stat(file, &st) == 0 && S_ISREG(st.st_mode);
}

/* ---- texts ---- */

static exo_status load_text(const char *dir, const char *name, size_t limit, exo_buf *out,
                            exo_error *err) {
    char path[PATH_BYTES], chunk[65536];
    struct stat info;
    if (!join(path, dir, name) || stat(path, &info) != 0) {
        return exo_error_set(err, EXO_ENOTFOUND, "%s is missing", name);
    }
    FILE *f = S_ISREG(info.st_mode) ? fopen(path, "rb") : NULL;
    if (f == NULL) return exo_error_set(err, EXO_EIO, "cannot read %s", name);
    exo_status st = EXO_OK;
    for (size_t n; st == EXO_OK && (n = fread(chunk, 1, sizeof chunk, f)) > 0;) {
        exo_buf_append(out, chunk, n);
        if (out->n > limit) {
            st = exo_error_set(err, EXO_EUNSUPPORTED, "%s is longer than %zu bytes", name, limit);
        }
    }
    if (st == EXO_OK && ferror(f)) st = exo_error_set(err, EXO_EIO, "cannot read %s", name);
    if (st == EXO_OK && !exo_buf_ok(out)) {
        st = exo_error_set(err, EXO_ENOMEM, "out of memory for %s", name);
    }
    fclose(f);
    return st;
}

exo_status exo_hf_load_json(const char *dir, const char *name, const exo_hf_limits *limits,
                            json_t **out, exo_error *err) {
    exo_buf text = {0};
    json_error_t je;
    *out = NULL;
    exo_status st = load_text(dir, name, limits->bytes, &text, err);
    if (st == EXO_OK) {
        st = exo_json_check(exo_buf_str(&text), text.n, &limits->json, err);
        if (st != EXO_OK) exo_error_wrap(err, st, "%s", name);
    }
    if (st == EXO_OK) {
        *out =
            exo_json_load(exo_buf_str(&text), text.n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &je);
        if (!json_is_object(*out)) {
            st = exo_error_set(err, EXO_EFORMAT, "%s is no JSON object: %.100s (line %d)", name,
                               *out == NULL ? je.text : "another kind of value",
                               *out == NULL ? je.line : 1);
            json_decref(*out);
            *out = NULL;
        }
    }
    exo_buf_finish(&text);
    return st;
}

/* A file that need not be there. */
static exo_status optional_json(const folder *f, const char *name, const exo_hf_limits *limits,
                                json_t **out, exo_error *err) {
    exo_status st = exo_hf_load_json(f->dir, name, limits, out, err);
    return st == EXO_ENOTFOUND ? EXO_OK : st;
}

static exo_status load_texts(folder *f, exo_error *err) {
    const exo_hf_limits *small = &exo_hf_config_limits, *large = &exo_hf_tokenizer_limits;
    exo_status st = exo_hf_load_json(f->dir, "config.json", small, &f->file, err);
    if (st == EXO_OK) st = exo_hf_find_family(f->file, &f->arch, &f->config, err);
    if (st == EXO_OK) st = exo_hf_load_json(f->dir, "tokenizer.json", large, &f->tokenizer, err);
    const struct {
        const char *name;
        const exo_hf_limits *limits;
        json_t **to;
    } others[] = {
        {"generation_config.json", small, &f->generation},
        {"tokenizer_config.json", small, &f->tokenizer_config},
        {"chat_template.json", small, &f->chat_template_json},
        {INDEX, large, &f->index},
        {"1_Pooling/config.json", small, &f->pooling},
    };
    for (size_t i = 0; i < sizeof others / sizeof *others && st == EXO_OK; i++) {
        st = optional_json(f, others[i].name, others[i].limits, others[i].to, err);
    }
    if (st != EXO_OK) return st;
    st = load_text(f->dir, "chat_template.jinja", small->bytes, &f->chat_template, err);
    f->tensors.config = f->config;
    f->tensors.arch = f->arch;
    f->tensors.tied = exo_hf_is_tied(f->config);
    return st == EXO_ENOTFOUND ? EXO_OK : st;
}

/* ---- weights ---- */

static exo_status open_file(folder *f, const char *name, exo_error *err) {
    char path[PATH_BYTES];
    exo_mapping *map = &f->maps[f->n_files];
    if (!join(path, f->dir, name)) return exo_error_set(err, EXO_EINVAL, "the path is too long");
    exo_status st = exo_mapping_open(path, map, err);
    if (st == EXO_OK) {
        f->names[f->n_files] = name;
        st = exo_safetensors_parse(map->bytes, map->n_bytes, &f->files[f->n_files++], err);
    }
    return st == EXO_OK ? st : exo_error_wrap(err, st, "%.80s", name);
}

static size_t find_file(const folder *f, const char *name) {
    for (size_t i = 0; i < f->n_files; i++) {
        if (strcmp(f->names[i], name) == 0) return i;
    }
    return f->n_files;
}

static bool is_file_name(const char *s) {
    size_t n = strlen(s);
    return n > 12 && n < 256 && s[0] != '.' && strchr(s, '/') == NULL &&
           strcmp(s + n - 12, ".safetensors") == 0;
}

static bool has_tensor(const exo_safetensors *s, const char *name) {
    return json_object_get(s->header, name) != NULL && strcmp(name, "__metadata__") != 0;
}

/* The files that the index names, and each tensor where the index says it is. */
static exo_status open_indexed(folder *f, json_t *map, exo_error *err) {
    const char *tensor;
    json_t *v;
    json_object_foreach(map, tensor, v) {
        const char *file = json_string_value(v);
        if (file == NULL || !is_file_name(file)) {
            return exo_error_set(err, EXO_EFORMAT, INDEX ": tensor '%.64s' is in no file", tensor);
        }
        size_t i = find_file(f, file);
        if (i == f->n_files && i == MAX_FILES) {
            return exo_error_set(err, EXO_EUNSUPPORTED, INDEX " names more than %d files",
                                 MAX_FILES);
        }
        exo_status st = i == f->n_files ? open_file(f, file, err) : EXO_OK;
        if (st != EXO_OK) return st;
        if (!has_tensor(&f->files[i], tensor)) {
            return exo_error_set(err, EXO_EFORMAT,
                                 INDEX " says that '%.64s' is in %.64s: it is not", tensor, file);
        }
    }
    return EXO_OK;
}

/* What lies in a file must be what the index says of it: else one of them is of another model. */
static exo_status check_index(const folder *f, const json_t *map, exo_error *err) {
    for (size_t i = 0; i < f->n_files; i++) {
        for (size_t k = 0; k < f->files[i].n; k++) {
            const char *tensor = f->files[i].tensors[k].name;
            const char *said = json_string_value(json_object_get(map, tensor));
            if (said != NULL && strcmp(said, f->names[i]) == 0) continue;
            return exo_error_set(
                err, EXO_EFORMAT, "tensor '%.64s' is in %.64s, but " INDEX " %s%.64s", tensor,
                f->names[i], said == NULL ? "does not name it" : "says that it is in ",
                said == NULL ? "" : said);
        }
    }
    return EXO_OK;
}

/* An index that names other files was left behind when the one file was saved. */
static bool is_left_over(const folder *f, json_t *map) {
    char path[PATH_BYTES];
    struct stat st;
    const char *tensor;
    json_t *v;
    json_object_foreach(map, tensor, v) {
        const char *file = json_string_value(v);
        if (file != NULL && strcmp(file, SINGLE) == 0) return false;
    }
    return join(path, f->dir, SINGLE) && stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static exo_status open_weights(folder *f, exo_error *err) {
    json_t *map = json_object_get(f->index, "weight_map");
    f->files = exo_calloc(MAX_FILES, sizeof *f->files);
    f->names = exo_calloc(MAX_FILES, sizeof *f->names);
    f->maps = exo_calloc(MAX_FILES, sizeof *f->maps);
    if (f->files == NULL || f->names == NULL || f->maps == NULL) {
        return exo_error_set(err, EXO_ENOMEM, "out of memory for files");
    }
    if (f->index == NULL) return open_file(f, SINGLE, err);
    if (!json_is_object(map) || json_object_size(map) == 0) {
        return exo_error_set(err, EXO_EFORMAT, INDEX " has no weight_map");
    }
    if (is_left_over(f, map)) return open_file(f, SINGLE, err); /* as transformers does */
    exo_status st = open_indexed(f, map, err);
    return st == EXO_OK ? check_index(f, map, err) : st;
}

static exo_status add_tensors(folder *f, exo_error *err) {
    exo_status st = EXO_OK;
    for (size_t i = 0; i < f->n_files && st == EXO_OK; i++) {
        for (size_t k = 0; k < f->files[i].n && st == EXO_OK; k++) {
            const exo_safetensor *t = &f->files[i].tensors[k];
            st = exo_hf_tensors_add(&f->tensors, t, err);
            if (st != EXO_OK) {
                exo_error_wrap(err, st, "%.64s: tensor '%.64s'", f->names[i], t->name);
            }
        }
    }
    if (st == EXO_OK && f->tensors.n_vision > 0) {
        exo_warn("%s: %zu tensors are for pictures and left out: this model reads text only",
                 exo_path_tail(f->dir), f->tensors.n_vision);
    }
    return st == EXO_OK ? exo_hf_tensors_end(&f->tensors, err) : st;
}

/* ---- the whole ---- */

static uint32_t file_type(const folder *f) {
    const exo_tensor *t = exo_hf_tensors_find(&f->tensors, "token_embd.weight");
    return t->type == EXO_F32 ? 0 : t->type == EXO_F16 ? 1 : 32;
}

static exo_status write_head(folder *f, exo_buf *head, exo_error *err) {
    exo_gguf_writer w = {0};
    uint64_t rows = exo_hf_tensors_find(&f->tensors, "token_embd.weight")->dims[1];
    exo_hf_texts texts = {.tokenizer = f->tokenizer,
                          .tokenizer_config = f->tokenizer_config,
                          .config = f->config,
                          .generation = f->generation,
                          .chat_template = f->chat_template.data,
                          .n_chat_template = f->chat_template.n,
                          .chat_template_json = f->chat_template_json};
    exo_status st = exo_hf_check_ids(f->config, rows, err);
    if (st == EXO_OK) {
        st = exo_hf_check_ids(f->generation, rows, err);
        if (st != EXO_OK) exo_error_wrap(err, st, "generation_config.json");
    }
    if (st == EXO_OK) st = exo_hf_add_config(f->config, f->arch, &w, err);
    if (st == EXO_OK) st = exo_hf_add_pooling(f->pooling, f->arch, &w, err);
    exo_gguf_add_u32(&w, "general.file_type", file_type(f));
    if (st == EXO_OK && rows > INT32_MAX) {
        st = exo_error_set(err, EXO_EFORMAT, "the embedding has %llu rows",
                           (unsigned long long)rows);
    }
    if (st == EXO_OK) st = exo_hf_add_tokenizer(&texts, (uint32_t)rows, &w, err);
    if (st == EXO_OK) {
        exo_gguf_writer_head(&w, head);
        if (!exo_buf_ok(head)) st = exo_error_set(err, EXO_ENOMEM, "out of memory for metadata");
    }
    exo_gguf_writer_finish(&w);
    return st;
}

static void finish(folder *f) {
    json_t *const texts[] = {f->file,      f->config,           f->generation,
                             f->tokenizer, f->tokenizer_config, f->chat_template_json,
                             f->index,     f->pooling};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) json_decref(texts[i]);
    for (size_t i = 0; i < f->n_files; i++) exo_safetensors_finish(&f->files[i]);
    for (size_t i = 0; f->maps != NULL && i < MAX_FILES; i++) exo_mapping_close(&f->maps[i]);
    exo_free(f->files);
    exo_free((void *)f->names);
    exo_free(f->maps);
    exo_free(f->tensors.tensors);
    exo_buf_finish(&f->chat_template);
    exo_arena_finish(&f->tensors.memory);
}

exo_status exo_hf_open(const char *path, exo_gguf **out, exo_error *err) {
    folder f = {.dir = path, .tensors = {.memory = {.limit_bytes = EXO_HF_VECTOR_LIMIT}}};
    exo_buf head = {0};
    *out = NULL;
    exo_status st = load_texts(&f, err);
    if (st == EXO_OK) st = open_weights(&f, err);
    if (st == EXO_OK) st = add_tensors(&f, err);
    if (st == EXO_OK) st = write_head(&f, &head, err);
    if (st == EXO_OK) {
        exo_gguf_foreign foreign = {.head = head,
                                    .tensors = f.tensors.tensors,
                                    .n_tensors = f.tensors.n_tensors,
                                    .maps = f.maps,
                                    .n_maps = MAX_FILES,
                                    .memory = f.tensors.memory,
                                    .rotate_half = f.arch->interleaved};
        head = (exo_buf){0};
        f.tensors.tensors = NULL;
        f.maps = NULL;
        f.tensors.memory = (exo_arena){0};
        st = exo_gguf_assemble(&foreign, out, err);
    }
    exo_buf_finish(&head);
    finish(&f);
    return st == EXO_OK ? st : exo_error_wrap(err, st, "%s", exo_path_tail(path));
}
