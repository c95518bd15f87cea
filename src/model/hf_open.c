/* hf_open.c - the files of a folder, joined into one model.
 *
 * Owns the mappings until they are handed over.  Which tensors there must be and of what shape is
 * model_tensors.c's, as for any file; here names are translated, types are checked, and what a
 * vector is gets widened, since norms and biases are f32 in GGUF files. */
#define _DEFAULT_SOURCE
#include "model/hf_impl.h"

#include "base/arena.h"
#include "base/half.h"
#include "base/le.h"
#include "base/mem.h"
#include "model/gguf_part.h"
#include "model/model.h"
#include "model/paths.h"
#include "model/safetensors.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define INDEX        "model.safetensors.index.json"
#define MAX_FILES    1000
#define PATH_BYTES   4096
#define VECTOR_LIMIT (1u << 30) /* bytes of all vectors, widened */

typedef struct {
    const char *dir;
    const exo_hf_arch *arch;
    json_t *config, *generation, *tokenizer, *tokenizer_config, *chat_template_json, *index,
        *pooling;
    exo_buf chat_template;
    exo_safetensors *files; /* (n_files) */
    const char **names;     /* (n_files) */
    exo_mapping *maps;      /* (n_files) */
    size_t n_files;
    exo_arena memory; /* names and widened vectors */
    exo_tensor *tensors;
    size_t n_tensors, cap_tensors;
    bool tied;
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

exo_status exo_hf_load_json(const char *dir, const char *name, size_t limit, json_t **out,
                            exo_error *err) {
    exo_buf text = {0};
    json_error_t je;
    *out = NULL;
    exo_status st = load_text(dir, name, limit, &text, err);
    if (st == EXO_OK) {
        *out = json_loadb(exo_buf_str(&text), text.n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &je);
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
static exo_status optional_json(const folder *f, const char *name, size_t limit, json_t **out,
                                exo_error *err) {
    exo_status st = exo_hf_load_json(f->dir, name, limit, out, err);
    return st == EXO_ENOTFOUND ? EXO_OK : st;
}

static exo_status load_texts(folder *f, exo_error *err) {
    exo_status st = exo_hf_load_json(f->dir, "config.json", EXO_HF_MAX_CONFIG, &f->config, err);
    if (st == EXO_OK) st = exo_hf_find_arch(f->config, &f->arch, err);
    if (st == EXO_OK) {
        st = exo_hf_load_json(f->dir, "tokenizer.json", EXO_HF_MAX_TOKENIZER, &f->tokenizer, err);
    }
    const struct {
        const char *name;
        json_t **to;
    } others[] = {
        {"generation_config.json", &f->generation},
        {"tokenizer_config.json", &f->tokenizer_config},
        {"chat_template.json", &f->chat_template_json},
        {INDEX, &f->index},
        {"1_Pooling/config.json", &f->pooling},
    };
    for (size_t i = 0; i < sizeof others / sizeof *others && st == EXO_OK; i++) {
        st = optional_json(f, others[i].name, EXO_HF_MAX_TOKENIZER, others[i].to, err);
    }
    if (st != EXO_OK) return st;
    st = load_text(f->dir, "chat_template.jinja", EXO_HF_MAX_CONFIG, &f->chat_template, err);
    f->tied = exo_hf_is_tied(f->config, f->arch);
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

static exo_status open_weights(folder *f, exo_error *err) {
    json_t *map = json_object_get(f->index, "weight_map");
    f->files = exo_calloc(MAX_FILES, sizeof *f->files);
    f->names = exo_calloc(MAX_FILES, sizeof *f->names);
    f->maps = exo_calloc(MAX_FILES, sizeof *f->maps);
    if (f->files == NULL || f->names == NULL || f->maps == NULL) {
        return exo_error_set(err, EXO_ENOMEM, "out of memory for files");
    }
    if (f->index == NULL) return open_file(f, "model.safetensors", err);
    if (!json_is_object(map) || json_object_size(map) == 0) {
        return exo_error_set(err, EXO_EFORMAT, INDEX " has no weight_map");
    }
    return open_indexed(f, map, err);
}

/* ---- tensors ---- */

static bool find_type(const exo_safetensor *t, exo_dtype *out) {
    static const struct {
        const char *name;
        exo_dtype type;
    } types[] = {{"BF16", EXO_BF16}, {"F16", EXO_F16}, {"F32", EXO_F32}};
    for (size_t i = 0; i < 3; i++) {
        if (strcmp(types[i].name, t->dtype) != 0) continue;
        *out = types[i].type;
        return true;
    }
    return false;
}

/* All of a tensor as f32; add: what the weights of some norms lack. */
static exo_status widen(folder *f, const exo_safetensor *from, float add, exo_tensor *t,
                        exo_error *err) {
    uint64_t n = from->bytes * 8 / from->elem_bits;
    uint8_t *out =
        n < VECTOR_LIMIT / 4 ? exo_arena_alloc(&f->memory, n > 0 ? 4 * (size_t)n : 4) : NULL;
    if (out == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a vector");
    for (size_t i = 0; i < n; i++) {
        float v = t->type == EXO_F32   ? exo_get_f32(from->data + 4 * i)
                  : t->type == EXO_F16 ? exo_f16_to_f32(exo_get_u16(from->data + 2 * i))
                                       : exo_bf16_to_f32(exo_get_u16(from->data + 2 * i));
        exo_put_f32(out + 4 * i, v + add);
    }
    t->type = EXO_F32;
    t->data = out;
    t->bytes = 4 * n;
    return EXO_OK;
}

static exo_tensor *find_tensor(const folder *f, const char *name) {
    for (size_t i = 0; i < f->n_tensors; i++) {
        if (strcmp(f->tensors[i].name.s, name) == 0) return &f->tensors[i];
    }
    return NULL;
}

static exo_status push_tensor(folder *f, const char *name, exo_tensor *t, exo_error *err) {
    char *copy = exo_arena_strndup(&f->memory, name, strlen(name));
    if (copy == NULL || exo_grow((void **)&f->tensors, &f->cap_tensors, f->n_tensors + 1,
                                 sizeof *f->tensors) != 0) {
        return exo_error_set(err, EXO_ENOMEM, "out of memory for tensors");
    }
    t->name = (exo_str){copy, strlen(copy)};
    f->tensors[f->n_tensors++] = *t;
    return EXO_OK;
}

/* ---- experts ---- */

/* Matrices of n experts that lie somewhere; none does yet. */
static const uint8_t **new_parts(folder *f, uint64_t n) {
    return exo_arena_zalloc(&f->memory, (size_t)n, sizeof(uint8_t *));
}

/* One expert's matrix: its place in the stack, which begins with the first one met. */
static exo_status add_expert(folder *f, const exo_hf_place *place, const exo_tensor *t,
                             exo_error *err) {
    uint32_t n = exo_hf_n_experts(f->config, f->arch);
    if (place->expert >= n || n > EXO_MAX_EXPERTS) {
        return exo_error_set(err, EXO_EFORMAT, "it is expert %u, but config.json says there are %u",
                             place->expert, n);
    }
    exo_tensor *stack = find_tensor(f, place->name);
    if (stack == NULL) {
        exo_tensor whole = *t;
        whole.n_dims = 3;
        whole.dims[2] = n;
        whole.bytes = t->bytes * n;
        whole.parts = new_parts(f, n);
        if (whole.parts == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for experts");
        exo_status st = push_tensor(f, place->name, &whole, err);
        if (st != EXO_OK) return st;
        stack = &f->tensors[f->n_tensors - 1];
    }
    if (stack->parts == NULL || stack->type != t->type || stack->dims[0] != t->dims[0] ||
        stack->dims[1] != t->dims[1]) {
        return exo_error_set(err, EXO_EFORMAT, "it is unlike the other experts of its layer");
    }
    const uint8_t **parts = (const uint8_t **)stack->parts;
    if (parts[place->expert] != NULL) return exo_error_set(err, EXO_EFORMAT, "it is there twice");
    parts[place->expert] = t->data;
    if (place->expert == 0) stack->data = t->data;
    return EXO_OK;
}

/* Every expert's gate lies above its up: two stacks with holes. */
static exo_status add_gate_up(folder *f, const exo_hf_place *place, const exo_tensor *t,
                              exo_error *err) {
    static const char *const names[] = {"blk.%u.ffn_gate_exps.weight", "blk.%u.ffn_up_exps.weight"};
    uint64_t each = t->dims[2] > 0 ? t->bytes / t->dims[2] : 0;
    if (t->dims[1] % 2 != 0 || t->dims[2] > EXO_MAX_EXPERTS) {
        return exo_error_set(err, EXO_EFORMAT, "it is %llu matrices of %llu rows",
                             (unsigned long long)t->dims[2], (unsigned long long)t->dims[1]);
    }
    for (uint64_t half = 0; half < 2; half++) {
        char name[64];
        exo_tensor part = *t;
        const uint8_t **parts = new_parts(f, t->dims[2]);
        if (parts == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for experts");
        for (uint64_t i = 0; i < t->dims[2]; i++) parts[i] = t->data + i * each + half * (each / 2);
        part.dims[1] = t->dims[1] / 2;
        part.bytes = t->bytes / 2;
        part.data = parts[0];
        part.parts = parts;
        exo_hf_fill_layer(names[half], place->layer, name);
        exo_status st = push_tensor(f, name, &part, err);
        if (st != EXO_OK) return st;
    }
    return EXO_OK;
}

static exo_status check_experts(const folder *f, exo_error *err) {
    for (size_t i = 0; i < f->n_tensors; i++) {
        const exo_tensor *t = &f->tensors[i];
        for (uint64_t k = 0; t->parts != NULL && k < t->dims[2]; k++) {
            if (t->parts[k] != NULL) continue;
            return exo_error_set(err, EXO_EFORMAT, "expert %llu of '%s' is missing",
                                 (unsigned long long)k, t->name.s);
        }
    }
    return EXO_OK;
}

/* ---- all tensors ---- */

static exo_status read_shape(const exo_safetensor *from, exo_hf_how how, exo_tensor *t,
                             exo_error *err) {
    bool stack = how == EXO_HF_STACK || how == EXO_HF_GATE_UP;
    if (!find_type(from, &t->type)) {
        return exo_error_set(err, EXO_EUNSUPPORTED, "it is %s (BF16, F16 and F32 are supported)",
                             from->dtype);
    }
    bool fits = stack                  ? from->n_dims == 3
                : how == EXO_HF_EXPERT ? from->n_dims == 2
                                       : from->n_dims == 1 || from->n_dims == 2;
    if (!fits) return exo_error_set(err, EXO_EFORMAT, "it has %u dimensions", from->n_dims);
    t->n_dims = from->n_dims;
    for (uint32_t i = 0; i < EXO_MAX_DIMS; i++) {
        t->dims[i] = i < from->n_dims ? from->shape[from->n_dims - 1 - i] : 1;
    }
    if (how == EXO_HF_FLAT && t->dims[1] == 1) t->n_dims = 1;
    return EXO_OK;
}

static bool is_norm(const char *name) {
    size_t n = strlen(name);
    return n > 11 && strcmp(name + n - 11, "norm.weight") == 0;
}

static exo_status add_tensor(folder *f, const exo_safetensor *from, exo_error *err) {
    exo_hf_place place;
    exo_tensor t = {.data = from->data, .bytes = from->bytes};
    if (!exo_hf_find_name(f->arch, from->name, &place)) {
        return exo_error_set(err, EXO_EUNSUPPORTED, "it has no place in a %s model",
                             f->arch->model_type);
    }
    if (place.how == EXO_HF_NOT_NEEDED) return EXO_OK;
    if (f->tied && strcmp(place.name, "output.weight") == 0) return EXO_OK; /* the embedding */
    exo_status st = read_shape(from, place.how, &t, err);
    if (st == EXO_OK && (t.n_dims == 1 || place.how == EXO_HF_WIDE)) {
        bool less = f->arch->norms_less_1 && is_norm(place.name);
        st = widen(f, from, less ? 1.0f : 0.0f, &t, err);
    }
    if (st != EXO_OK) return st;
    if (place.how == EXO_HF_EXPERT) return add_expert(f, &place, &t, err);
    if (place.how == EXO_HF_GATE_UP) return add_gate_up(f, &place, &t, err);
    return push_tensor(f, place.name, &t, err);
}

/* Layers behind the last, which some files have for training. */
static bool is_extra(const folder *f, const char *name) {
    unsigned layer;
    return f->arch->extra_layers && sscanf(name, "model.layers.%6u.", &layer) == 1 &&
           layer >= exo_hf_n_layers(f->config);
}

static exo_status add_rope_factors(folder *f, exo_error *err) {
    exo_hf_factors factors;
    for (int which = 0; exo_hf_rope_factors(f->config, f->arch, which, &factors); which++) {
        uint8_t *bytes = exo_arena_alloc(&f->memory, 4 * (size_t)factors.n);
        if (bytes == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a vector");
        for (uint32_t i = 0; i < factors.n; i++) exo_put_f32(bytes + 4 * (size_t)i, factors.v[i]);
        exo_tensor t = {.type = EXO_F32,
                        .n_dims = 1,
                        .dims = {factors.n, 1, 1, 1},
                        .data = bytes,
                        .bytes = 4 * (uint64_t)factors.n};
        exo_status st = push_tensor(f, factors.name, &t, err);
        if (st != EXO_OK) return st;
    }
    return EXO_OK;
}

static exo_status add_tensors(folder *f, exo_error *err) {
    exo_status st = EXO_OK;
    for (size_t i = 0; i < f->n_files && st == EXO_OK; i++) {
        for (size_t k = 0; k < f->files[i].n && st == EXO_OK; k++) {
            const exo_safetensor *t = &f->files[i].tensors[k];
            if (is_extra(f, t->name)) continue;
            st = add_tensor(f, t, err);
            if (st != EXO_OK) {
                exo_error_wrap(err, st, "%.64s: tensor '%.64s'", f->names[i], t->name);
            }
        }
    }
    if (st == EXO_OK) st = add_rope_factors(f, err);
    if (st == EXO_OK) st = check_experts(f, err);
    if (st != EXO_OK) return st;
    if (find_tensor(f, "token_embd.weight") == NULL) {
        return exo_error_set(err, EXO_EFORMAT, "tensor 'model.embed_tokens.weight' is missing");
    }
    bool says_untied = json_is_false(json_object_get(f->config, "tie_word_embeddings"));
    if (says_untied && find_tensor(f, "output.weight") == NULL) {
        return exo_error_set(err, EXO_EFORMAT,
                             "config.json says tie_word_embeddings false, but "
                             "tensor 'lm_head.weight' is missing");
    }
    return EXO_OK;
}

/* ---- the whole ---- */

static uint32_t file_type(const folder *f) {
    const exo_tensor *t = find_tensor(f, "token_embd.weight");
    return t->type == EXO_F32 ? 0 : t->type == EXO_F16 ? 1 : 32;
}

static exo_status write_head(folder *f, exo_buf *head, exo_error *err) {
    exo_gguf_writer w = {0};
    uint64_t rows = find_tensor(f, "token_embd.weight")->dims[1];
    exo_hf_texts texts = {.tokenizer = f->tokenizer,
                          .tokenizer_config = f->tokenizer_config,
                          .config = f->config,
                          .generation = f->generation,
                          .chat_template = f->chat_template.data,
                          .n_chat_template = f->chat_template.n,
                          .chat_template_json = f->chat_template_json};
    exo_status st = exo_hf_add_config(f->config, f->arch, &w, err);
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
    json_t *const texts[] = {f->config,           f->generation,         f->tokenizer,
                             f->tokenizer_config, f->chat_template_json, f->index,
                             f->pooling};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) json_decref(texts[i]);
    for (size_t i = 0; i < f->n_files; i++) exo_safetensors_finish(&f->files[i]);
    for (size_t i = 0; f->maps != NULL && i < MAX_FILES; i++) exo_mapping_close(&f->maps[i]);
    exo_free(f->files);
    exo_free((void *)f->names);
    exo_free(f->maps);
    exo_free(f->tensors);
    exo_buf_finish(&f->chat_template);
    exo_arena_finish(&f->memory);
}

exo_status exo_hf_open(const char *path, exo_gguf **out, exo_error *err) {
    folder f = {.dir = path, .memory = {.limit_bytes = VECTOR_LIMIT}};
    exo_buf head = {0};
    *out = NULL;
    exo_status st = load_texts(&f, err);
    if (st == EXO_OK) st = open_weights(&f, err);
    if (st == EXO_OK) st = add_tensors(&f, err);
    if (st == EXO_OK) st = write_head(&f, &head, err);
    if (st == EXO_OK) {
        exo_gguf_foreign foreign = {.head = head,
                                    .tensors = f.tensors,
                                    .n_tensors = f.n_tensors,
                                    .maps = f.maps,
                                    .n_maps = MAX_FILES,
                                    .memory = f.memory,
                                    .rotate_half = f.arch->interleaved};
        head = (exo_buf){0};
        f.tensors = NULL;
        f.maps = NULL;
        f.memory = (exo_arena){0};
        st = exo_gguf_assemble(&foreign, out, err);
    }
    exo_buf_finish(&head);
    finish(&f);
    return st == EXO_OK ? st : exo_error_wrap(err, st, "%s", exo_path_tail(path));
}
