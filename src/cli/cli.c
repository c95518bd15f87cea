/* cli.c - options, numbers, errors, files; see cli.h. */
#define _DEFAULT_SOURCE
#include "cli/cli.h"

#include "compute/cpu/place.h"
#include "engine/pack_cache.h"
#include "engine/seat.h"
#include "model/arch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int exo_cli_usage(const exo_command *c, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, "exo %s: ", c->name);
    vfprintf(stderr, fmt, args);
    fprintf(stderr, " (see `exo %s --help`)\n", c->name);
    va_end(args);
    return EXO_EXIT_USAGE;
}

int exo_cli_fail(const exo_error *err) {
    fprintf(stderr, "exo: %s\n",
            err->message[0] != '\0' ? err->message : exo_status_name(err->status));
    return EXO_EXIT_FAILED;
}

static const exo_option *find_option(const exo_option *options, const char *name, size_t n) {
    for (const exo_option *o = options; o->name != NULL; o++) {
        if (strlen(o->name) == n && memcmp(o->name, name, n) == 0) return o;
    }
    return NULL;
}

/* As people write it: -n, --temp. */
static const char *dashes(const char *name) { return name[1] == '\0' ? "-" : "--"; }

/* Takes the option at argv[*i], with its value: --name value, --name=value, -n value. */
static int take_option(const exo_command *c, int argc, char **argv, int *i,
                       const exo_option *options) {
    const char *arg = argv[*i];
    const char *name = arg + (arg[1] == '-' ? 2 : 1), *equals = strchr(name, '=');
    size_t n = equals != NULL ? (size_t)(equals - name) : strlen(name);
    const exo_option *o = find_option(options, name, n);
    if (o == NULL) return exo_cli_usage(c, "unknown option %s", arg);
    if (o->seen != NULL) {
        *o->seen = true;
        return equals == NULL ? EXO_EXIT_OK
                              : exo_cli_usage(c, "%s%s takes no value", dashes(o->name), o->name);
    }
    if (equals == NULL && *i + 1 >= argc) return exo_cli_usage(c, "%s needs a value", arg);
    const char *value = equals != NULL ? equals + 1 : argv[++*i];
    if (o->list == NULL) {
        *o->value = value;
    } else if (*o->n_list < EXO_CLI_MAX_LIST) {
        o->list[(*o->n_list)++] = value;
    } else {
        return exo_cli_usage(c, "--%s is given more than %d times", o->name, EXO_CLI_MAX_LIST);
    }
    return EXO_EXIT_OK;
}

int exo_cli_parse(const exo_command *c, int argc, char **argv, const exo_option *options,
                  const char **words, size_t n_words) {
    size_t n = 0;
    bool only_words = false;
    for (size_t k = 0; k < n_words; k++) words[k] = NULL;
    for (int i = 0; i < argc; i++) {
        if (!only_words && strcmp(argv[i], "--") == 0) {
            only_words = true;
        } else if (!only_words && argv[i][0] == '-' && argv[i][1] != '\0') {
            int rc = take_option(c, argc, argv, &i, options);
            if (rc != EXO_EXIT_OK) return rc;
        } else if (n < n_words) {
            words[n++] = argv[i];
        } else {
            return exo_cli_usage(c, "unexpected \"%s\"", argv[i]);
        }
    }
    return EXO_EXIT_OK;
}

bool exo_cli_u64(const exo_command *c, const char *name, const char *text, uint64_t *out) {
    if (text == NULL) return true;
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || errno != 0) {
        exo_cli_usage(c, "%s%s must be a whole number, not \"%s\"", dashes(name), name, text);
        return false;
    }
    *out = v;
    return true;
}

bool exo_cli_u32(const exo_command *c, const char *name, const char *text, uint32_t min,
                 uint32_t max, uint32_t *out) {
    uint64_t v = *out;
    if (!exo_cli_u64(c, name, text, &v)) return false;
    if (text != NULL && (v < min || v > max)) {
        exo_cli_usage(c, "%s%s must be %" PRIu32 " to %" PRIu32 ", not %s", dashes(name), name, min,
                      max, text);
        return false;
    }
    *out = (uint32_t)v;
    return true;
}

bool exo_cli_float(const exo_command *c, const char *name, const char *text, double min, double max,
                   float *out) {
    if (text == NULL) return true;
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end != '\0' || !(v >= min && v <= max)) {
        exo_cli_usage(c, "%s%s must be a number from %g to %g, not \"%s\"", dashes(name), name, min,
                      max, text);
        return false;
    }
    *out = (float)v;
    return true;
}

bool exo_cli_kv(const exo_command *c, const char *text, bool *f16, bool *q8_0) {
    if (text == NULL) return true;
    if (*f16) {
        exo_cli_usage(c, "--kv %s and --kv-f16: one of them", text);
        return false;
    }
    *f16 = strcmp(text, "f16") == 0;
    *q8_0 = strcmp(text, "q8_0") == 0;
    if (*f16 || *q8_0 || strcmp(text, "f32") == 0) return true;
    exo_cli_usage(c, "--kv must be f32, f16 or q8_0, not %s", text);
    return false;
}

bool exo_cli_device(const exo_command *c, const char *text) {
    if (text == NULL || exo_seat_is_gpu(text)) return true;
    size_t digits = strncmp(text, "cpu:", 4) == 0 ? strspn(text + 4, "0123456789") : 0;
    if (digits > 0 && text[4 + digits] == '\0') return true;
    exo_cli_usage(c, "--device must be like cpu:0 or vulkan:0, not \"%s\"", text);
    return false;
}

bool exo_cli_keep_packed(const char *data_dir) {
    char dir[1200];
    exo_error err = {0};
    snprintf(dir, sizeof dir, "%s/packed", data_dir);
    exo_pack_settings s = {.dir = dir};
    if (exo_pack_settings_read(getenv("EXO_PACK_CACHE"), &s, &err) != EXO_OK) {
        exo_cli_fail(&err);
        return false;
    }
    if (exo_place_numa()) s.dir = NULL; /* a mapped page lies where its file was read */
    exo_pack_cache_set(&s);
    return true;
}

bool exo_cli_place(bool pin, bool numa) {
    exo_place_ask(pin, numa);
    return !numa || exo_cli_keep_packed(exo_cli_data_dir());
}

const char *exo_cli_data_dir(void) {
    static char dir[1024];
    const char *home = getenv("EXO_HOME"), *user = getenv("HOME");
    if (home != NULL && *home != '\0') {
        snprintf(dir, sizeof dir, "%s", home);
    } else {
        snprintf(dir, sizeof dir, "%s/.exo", user != NULL ? user : ".");
    }
    return dir;
}

exo_status exo_cli_open_model(const char *name, exo_model **out, exo_error *err) {
    char path[4096];
    *out = NULL;
    exo_status st = exo_models_resolve_given(name, exo_cli_data_dir(), path, sizeof path, err);
    return st == EXO_OK ? exo_model_open(path, out, err) : st;
}

exo_status exo_cli_open_file(const char *name, exo_gguf **out, exo_error *err) {
    char path[4096];
    *out = NULL;
    exo_status st = exo_models_resolve_given(name, exo_cli_data_dir(), path, sizeof path, err);
    if (st != EXO_OK) return st;
    if (strcmp(path, "tiny") != 0) return exo_gguf_open(path, out, err);
    size_t n;
    const void *bytes = exo_builtin_tiny(&n);
    return exo_gguf_open_memory(bytes, n, out, err);
}

exo_status exo_cli_open_checked(const char *path, exo_model **model, exo_gguf **file,
                                exo_error *err) {
    exo_str arch = {0};
    *file = NULL;
    exo_status st = exo_model_open(path, model, err);
    if (st == EXO_OK || exo_gguf_open(path, file, NULL) != EXO_OK) return st;
    bool named = exo_gguf_str(*file, "general.architecture", &arch);
    if (!named || exo_arch_find(arch) == NULL || exo_gguf_n_tensors(*file) == 0) return EXO_OK;
    exo_gguf_close(*file);
    *file = NULL;
    return st;
}

static exo_status read_all(FILE *f, const char *what, exo_buf *out, size_t limit, exo_error *err) {
    char chunk[65536];
    size_t n;
    while ((n = fread(chunk, 1, sizeof chunk, f)) > 0) {
        if (out->n + n > limit) {
            return exo_error_set(err, EXO_EINVAL, "%s is longer than %zu bytes", what, limit);
        }
        exo_buf_append(out, chunk, n);
    }
    if (ferror(f)) return exo_error_set(err, EXO_EIO, "cannot read %s: %s", what, strerror(errno));
    if (!exo_buf_ok(out)) return exo_error_set(err, EXO_ENOMEM, "out of memory for %s", what);
    return EXO_OK;
}

exo_status exo_cli_read_stdin(exo_buf *out, size_t limit, exo_error *err) {
    return read_all(stdin, "standard input", out, limit, err);
}

exo_status exo_cli_read_file(const char *path, exo_buf *out, size_t limit, exo_error *err) {
    FILE *f = fopen(path, "rb");
    if (f == NULL) return exo_error_set(err, EXO_EIO, "cannot open %s: %s", path, strerror(errno));
    exo_status st = read_all(f, path, out, limit, err);
    fclose(f);
    return st;
}

int exo_cli_print_json(json_t *j_take) {
    int rc =
        j_take != NULL ? json_dumpf(j_take, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9)) : -1;
    json_decref(j_take);
    if (rc != 0 || putchar('\n') == EOF || fflush(stdout) != 0) {
        exo_error err;
        exo_error_set(&err, EXO_EIO, "cannot write the result");
        return exo_cli_fail(&err);
    }
    return EXO_EXIT_OK;
}

uint64_t exo_cli_rss_bytes(void) {
    FILE *f = fopen("/proc/self/statm", "r");
    char line[128], *second;
    unsigned long long resident = 0;
    if (f == NULL) return 0;
    if (fgets(line, sizeof line, f) != NULL) {
        (void)strtoull(line, &second, 10); /* pages mapped */
        resident = strtoull(second, NULL, 10);
    }
    fclose(f);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}
