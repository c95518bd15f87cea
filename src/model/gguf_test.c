/* gguf_test.c - well-formed files are read exactly, malformed ones are refused for the reason
 * they deserve.
 *
 * Files are built in memory with gguf_writer and then broken by hand; every parse runs on a copy
 * of exactly the file's size, so that a sanitizer sees any byte read beyond it. */
#define _DEFAULT_SOURCE /* mkdtemp */
#include "model/gguf.h"

#include "base/le.h"
#include "base/mem.h"
#include "model/gguf_writer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define HUGE_COUNT ((uint64_t)1 << 61)

/* ---- building ---- */

typedef struct {
    exo_gguf_writer w;
    exo_buf file;
    uint32_t version; /* 0 = the writer's */
    bool no_data;
} fixture;

static void add_tensor(fixture *f, const char *name, exo_dtype type, uint64_t d0, uint64_t d1) {
    exo_gguf_add_tensor(&f->w, name, type, 2, (const uint64_t[]){d0, d1});
}

/* A tensor whose every field is the test's to choose. */
static void add_raw_tensor(fixture *f, const char *name, uint32_t n_dims, const uint64_t *dims,
                           uint32_t type, uint64_t offset) {
    exo_gguf_put_str(&f->w.tensors, name, strlen(name));
    exo_gguf_put_u32(&f->w.tensors, n_dims);
    for (uint32_t i = 0; i < n_dims; i++) exo_gguf_put_u64(&f->w.tensors, dims[i]);
    exo_gguf_put_u32(&f->w.tensors, type);
    exo_gguf_put_u64(&f->w.tensors, offset);
    f->w.n_tensors++;
}

static void add_raw_key(fixture *f, const char *key, uint32_t type) {
    exo_gguf_put_str(&f->w.kvs, key, strlen(key));
    exo_gguf_put_u32(&f->w.kvs, type);
    f->w.n_kvs++;
}

/* Head and data; byte k of the data is 7 k + 1. */
static void finish_file(fixture *f) {
    exo_buf_clear(&f->file);
    exo_gguf_writer_head(&f->w, &f->file);
    for (uint64_t k = 0; k < f->w.data_bytes && !f->no_data; k++) {
        exo_buf_putc(&f->file, (char)(uint8_t)(7 * k + 1));
    }
    assert_true(exo_buf_ok(&f->file));
    if (f->version != 0) exo_put_u32(f->file.data + 4, f->version);
}

static void free_fixture(fixture *f) {
    exo_gguf_writer_finish(&f->w);
    exo_buf_finish(&f->file);
    *f = (fixture){0};
}

/* One of everything. */
static void build_sample(fixture *f) {
    *f = (fixture){0};
    exo_gguf_add_str(&f->w, "general.architecture", "llama");
    exo_gguf_add_u32(&f->w, "a.u32", 7);
    exo_gguf_add_f32(&f->w, "a.f32", 0.5f);
    exo_gguf_add_bool(&f->w, "a.bool", true);
    add_raw_key(f, "a.i8", EXO_GGUF_I8);
    exo_buf_putc(&f->w.kvs, (char)-3);
    add_raw_key(f, "a.u64", EXO_GGUF_U64);
    exo_gguf_put_u64(&f->w.kvs, (uint64_t)1 << 33);
    exo_gguf_add_array(&f->w, "a.strings", EXO_GGUF_STRING, 40);
    for (int i = 0; i < 40; i++) {
        char s[8];
        int n = snprintf(s, sizeof s, "s%d", i);
        exo_gguf_put_str(&f->w.kvs, s, i % 5 == 0 ? 0 : (size_t)n);
    }
    exo_gguf_add_array(&f->w, "a.ints", EXO_GGUF_U32, 3);
    for (uint32_t i = 0; i < 3; i++) exo_gguf_put_u32(&f->w.kvs, 10 * i);
    exo_gguf_add_array(&f->w, "a.none", EXO_GGUF_F32, 0);
    add_tensor(f, "t.f32", EXO_F32, 3, 5);
    add_tensor(f, "t.q8", EXO_Q8_0, 64, 2);
    add_tensor(f, "t.empty", EXO_F32, 0, 9);
    add_tensor(f, "t.last", EXO_F16, 1, 1);
    finish_file(f);
}

/* ---- opening ---- */

/* Parses a copy of exactly n bytes; *g, when it opened, and *copy are the caller's. */
static exo_status open_copy(const char *bytes, size_t n, exo_gguf **g, char **copy,
                            exo_error *err) {
    *copy = malloc(n == 0 ? 1 : n);
    assert_non_null(*copy);
    memcpy(*copy, bytes, n);
    return exo_gguf_open_memory(*copy, n, g, err);
}

/* Reads all that a file offers, so that a sanitizer sees every byte it claims to have. */
static void walk(const exo_gguf *g) {
    static volatile uint8_t sink;
    for (size_t i = 0; i < exo_gguf_n_tensors(g); i++) {
        const exo_tensor *t = exo_gguf_tensor(g, i);
        if (t->bytes > 0) sink = (uint8_t)(t->data[0] ^ t->data[t->bytes - 1]);
    }
    exo_gguf_type elem;
    exo_str s;
    size_t n;
    if (exo_gguf_array(g, "a.strings", &elem, &n)) {
        for (size_t i = 0; i < n; i++) {
            if (exo_gguf_array_str(g, "a.strings", i, &s) && s.n > 0) sink = (uint8_t)s.s[s.n - 1];
        }
    }
    (void)sink;
}

static void check(const fixture *f, exo_status want, const char *message_part) {
    exo_gguf *g = NULL;
    char *copy;
    exo_error err = {0};
    exo_status st = open_copy(f->file.data, f->file.n, &g, &copy, &err);
    if (st == EXO_OK) walk(g);
    if (st != want || (message_part != NULL && strstr(err.message, message_part) == NULL)) {
        fail_msg("status %d, message \"%s\"; wanted status %d and \"%s\"", st, err.message, want,
                 message_part != NULL ? message_part : "");
    }
    if (st != EXO_OK) assert_null(g);
    exo_gguf_close(g);
    free(copy);
}

static void finish_and_check(fixture *f, exo_status want, const char *message_part) {
    finish_file(f);
    check(f, want, message_part);
    free_fixture(f);
}

/* ---- well-formed ---- */

static void check_sample_tensors(const exo_gguf *g) {
    assert_int_equal(exo_gguf_n_tensors(g), 4);
    const exo_tensor *t = exo_gguf_find(g, "t.q8");
    assert_ptr_equal(t, exo_gguf_tensor(g, 1));
    assert_int_equal(t->bytes, 2 * 2 * 34);
    assert_int_equal(t->dims[0], 64);
    assert_int_equal(t->dims[2], 1);
    assert_int_equal(t->data[0], (uint8_t)(7 * 64 + 1)); /* t.f32 takes 60 bytes, padded to 64 */
    assert_int_equal(exo_gguf_find(g, "t.empty")->bytes, 0);
    assert_null(exo_gguf_find(g, "t"));
    assert_int_equal(exo_gguf_bytes(g), 60 + 136 + 2);
    exo_gguf_drop_pages(g, t); /* no effect on memory that is not a file */
}

static void a_file_is_read_as_written(void **ud) {
    (void)ud;
    fixture f;
    build_sample(&f);
    exo_gguf *g;
    char *copy;
    exo_error err = {0};
    assert_int_equal(open_copy(f.file.data, f.file.n, &g, &copy, &err), EXO_OK);

    exo_str s;
    uint32_t u;
    float x;
    bool b;
    assert_true(exo_gguf_str(g, "general.architecture", &s));
    assert_int_equal(s.n, 5);
    assert_memory_equal(s.s, "llama", 5);
    assert_true(exo_gguf_u32(g, "a.u32", &u) && u == 7);
    assert_true(exo_gguf_f32(g, "a.f32", &x) && x == 0.5f);
    assert_true(exo_gguf_bool(g, "a.bool", &b) && b);
    assert_false(exo_gguf_u32(g, "a.i8", &u));  /* negative */
    assert_false(exo_gguf_u32(g, "a.u64", &u)); /* too large */
    assert_false(exo_gguf_u32(g, "a.f32", &u));
    assert_false(exo_gguf_u32(g, "a.ints", &u));
    assert_false(exo_gguf_str(g, "a.u32", &s));
    assert_true(exo_gguf_has(g, "a.none") && !exo_gguf_has(g, "a.non"));

    exo_gguf_type elem;
    size_t n;
    int64_t v;
    double d;
    assert_true(exo_gguf_array(g, "a.strings", &elem, &n));
    assert_int_equal(elem, EXO_GGUF_STRING);
    assert_int_equal(n, 40);
    for (size_t i = 0; i < n; i++) {
        char want[8];
        int len = i % 5 == 0 ? 0 : snprintf(want, sizeof want, "s%zu", i);
        assert_true(exo_gguf_array_str(g, "a.strings", i, &s));
        assert_int_equal(s.n, len);
        assert_memory_equal(s.s, want, s.n);
    }
    assert_false(exo_gguf_array_str(g, "a.strings", 40, &s));
    assert_true(exo_gguf_array_i64(g, "a.ints", 2, &v) && v == 20);
    assert_false(exo_gguf_array_i64(g, "a.ints", 3, &v));
    assert_false(exo_gguf_array_f64(g, "a.none", 0, &d));
    assert_false(exo_gguf_array(g, "a.u32", &elem, &n));

    check_sample_tensors(g);
    exo_gguf_close(g);
    free(copy);
    free_fixture(&f);
}

static void sparse_files_are_well_formed(void **ud) {
    (void)ud;
    fixture f = {0};
    finish_and_check(&f, EXO_OK, NULL); /* nothing at all */
    add_tensor(&f, "only", EXO_F32, 4, 4);
    finish_and_check(&f, EXO_OK, NULL); /* no metadata */
    add_tensor(&f, "none", EXO_Q4_K, 0, 4);
    finish_and_check(&f, EXO_OK, NULL); /* a zero dimension */
    add_raw_tensor(&f, "none", 3, (const uint64_t[]){INT64_MAX, INT64_MAX, 0}, EXO_F32, 0);
    finish_and_check(&f, EXO_OK, NULL);
    exo_gguf_add_u32(&f.w, "general.alignment", 32);
    f.version = 2;
    finish_and_check(&f, EXO_OK, NULL);
    exo_gguf_add_u32(&f.w, "general.alignment", 1);
    add_tensor(&f, "t", EXO_F32, 8, 4);
    finish_and_check(&f, EXO_OK, NULL);
}

/* ---- malformed ---- */

static void every_truncation_is_refused(void **ud) {
    (void)ud;
    fixture f;
    build_sample(&f);
    for (size_t n = 0; n < f.file.n; n++) {
        exo_gguf *g;
        char *copy;
        exo_error err = {0};
        assert_int_equal(open_copy(f.file.data, n, &g, &copy, &err), EXO_EFORMAT);
        assert_true(err.message[0] != '\0');
        free(copy);
    }
    free_fixture(&f);
}

static void no_changed_byte_is_dangerous(void **ud) {
    (void)ud;
    static const uint8_t values[] = {0x00, 0x01, 0x08, 0x09, 0x7F, 0x80, 0xFF};
    fixture f;
    build_sample(&f);
    for (size_t at = 0; at < f.file.n; at++) {
        char kept = f.file.data[at];
        for (size_t v = 0; v < sizeof values; v++) {
            exo_gguf *g;
            char *copy;
            f.file.data[at] = (char)values[v];
            if (open_copy(f.file.data, f.file.n, &g, &copy, NULL) == EXO_OK) walk(g);
            exo_gguf_close(g);
            free(copy);
        }
        f.file.data[at] = kept;
    }
    free_fixture(&f);
}

static void other_formats_and_versions_are_named(void **ud) {
    (void)ud;
    fixture f = {0};
    finish_file(&f);
    f.file.data[0] = 'g';
    check(&f, EXO_EFORMAT, "not a GGUF file");
    free_fixture(&f);
    static const uint32_t versions[] = {1, 4, 0x03000000};
    for (size_t i = 0; i < 3; i++) {
        f.version = versions[i];
        finish_and_check(&f, EXO_EUNSUPPORTED, i == 2 ? "big-endian" : "version");
    }
}

static void lying_counts_are_refused(void **ud) {
    (void)ud;
    fixture f = {0};
    f.w.n_tensors = HUGE_COUNT;
    finish_and_check(&f, EXO_EFORMAT, "tensors cannot fit");
    f.w.n_kvs = HUGE_COUNT;
    finish_and_check(&f, EXO_EFORMAT, "metadata entries cannot fit");
    f.w.n_kvs = UINT64_MAX;
    finish_and_check(&f, EXO_EFORMAT, "metadata entries cannot fit");
    for (uint32_t elem = EXO_GGUF_U8; elem <= EXO_GGUF_F64; elem++) {
        if (elem == EXO_GGUF_ARRAY) continue;
        exo_gguf_add_array(&f.w, "k", (exo_gguf_type)elem, elem % 2 == 0 ? HUGE_COUNT : UINT64_MAX);
        finish_and_check(&f, EXO_EFORMAT, "'k': the file ends within");
    }
    add_raw_key(&f, "k", EXO_GGUF_STRING);
    exo_gguf_put_u64(&f.w.kvs, UINT64_MAX);
    finish_and_check(&f, EXO_EFORMAT, "a string");
    exo_gguf_put_u64(&f.w.kvs, HUGE_COUNT); /* a key's length */
    exo_buf_append(&f.w.kvs, "0123456789", 10);
    f.w.n_kvs = 1;
    finish_and_check(&f, EXO_EFORMAT, "a metadata key");
}

static void bad_metadata_is_refused(void **ud) {
    (void)ud;
    fixture f = {0};
    exo_gguf_add_u32(&f.w, "k", 1);
    exo_gguf_add_str(&f.w, "k", "again");
    finish_and_check(&f, EXO_EFORMAT, "'k' occurs twice");
    exo_gguf_add_u32(&f.w, "", 1);
    finish_and_check(&f, EXO_EFORMAT, "empty key");
    add_raw_key(&f, "k", 13);
    exo_gguf_put_u64(&f.w.kvs, 0);
    finish_and_check(&f, EXO_EFORMAT, "unknown value type 13");
    exo_gguf_add_array(&f.w, "k", (exo_gguf_type)77, 0);
    finish_and_check(&f, EXO_EFORMAT, "unknown element type 77");
    exo_gguf_add_array(&f.w, "k", EXO_GGUF_ARRAY, 1);
    for (int i = 0; i < 1000; i++) { /* arrays in arrays in arrays */
        exo_gguf_put_u32(&f.w.kvs, EXO_GGUF_ARRAY);
        exo_gguf_put_u64(&f.w.kvs, 1);
    }
    finish_and_check(&f, EXO_EUNSUPPORTED, "arrays within arrays");
}

static void bad_alignment_is_refused(void **ud) {
    (void)ud;
    static const uint32_t bad[] = {0, 3, 48, UINT32_MAX};
    fixture f = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        exo_gguf_add_u32(&f.w, "general.alignment", bad[i]);
        finish_and_check(&f, EXO_EFORMAT, "general.alignment");
    }
    add_raw_key(&f, "general.alignment", EXO_GGUF_U64);
    exo_gguf_put_u64(&f.w.kvs, 32);
    finish_and_check(&f, EXO_EFORMAT, "general.alignment");
    exo_gguf_add_u32(&f.w, "general.alignment", 1u << 31); /* valid, but the data cannot fit */
    add_tensor(&f, "t", EXO_F32, 8, 4);
    finish_and_check(&f, EXO_EFORMAT, "pass the file's end");
    exo_gguf_add_u32(&f.w, "general.alignment", 64); /* the second tensor is packed for 32 */
    add_tensor(&f, "t", EXO_F32, 8, 1);
    add_tensor(&f, "u", EXO_F32, 8, 1);
    finish_and_check(&f, EXO_EFORMAT, "offset 32, expected 64");
}

static void bad_shapes_are_refused(void **ud) {
    (void)ud;
    fixture f = {0};
    const uint64_t big = (uint64_t)1 << 32;
    add_raw_tensor(&f, "t", 2, (const uint64_t[]){big, big}, EXO_F32, 0);
    finish_and_check(&f, EXO_EFORMAT, "product of its dimensions overflows");
    add_raw_tensor(&f, "t", 1, (const uint64_t[]){INT64_MAX / 2}, EXO_F32, 0);
    finish_and_check(&f, EXO_EFORMAT, "size in bytes overflows");
    add_raw_tensor(&f, "t", 2, (const uint64_t[]){4, UINT64_MAX}, EXO_F32, 0);
    finish_and_check(&f, EXO_EFORMAT, "negative");
    add_raw_tensor(&f, "t", 5, (const uint64_t[]){1, 1, 1, 1, 1}, EXO_F32, 0);
    finish_and_check(&f, EXO_EFORMAT, "5 dimensions");
    add_raw_tensor(&f, "t", 2, (const uint64_t[]){48, 2}, EXO_Q8_0, 0);
    finish_and_check(&f, EXO_EFORMAT, "not whole q8_0 blocks");
    add_raw_tensor(&f, "t", 0, NULL, EXO_Q8_0, 0);
    finish_and_check(&f, EXO_EFORMAT, "not whole q8_0 blocks");
    add_raw_tensor(&f, "t", 1, (const uint64_t[]){4}, 4, 0); /* a type that was taken back */
    finish_and_check(&f, EXO_EFORMAT, "unknown type 4");
    add_raw_tensor(&f, "t", 1, (const uint64_t[]){4}, UINT32_MAX, 0);
    finish_and_check(&f, EXO_EFORMAT, "unknown type");
    const uint64_t most[] = {(uint64_t)1 << 60};
    add_raw_tensor(&f, "t", 1, most, EXO_F32, 0);
    add_raw_tensor(&f, "u", 1, most, EXO_F32, (uint64_t)1 << 62);
    finish_and_check(&f, EXO_EFORMAT, "the sum of all sizes overflows");
}

static void bad_names_and_offsets_are_refused(void **ud) {
    (void)ud;
    fixture f = {0};
    char name[65];
    memset(name, 'n', sizeof name);
    name[64] = '\0';
    add_tensor(&f, name, EXO_F32, 4, 1);
    finish_and_check(&f, EXO_EFORMAT, "name of 64 bytes");
    name[63] = '\0';
    add_tensor(&f, name, EXO_F32, 4, 1);
    finish_and_check(&f, EXO_OK, NULL);
    add_tensor(&f, "t", EXO_F32, 4, 1);
    add_tensor(&f, "t", EXO_F16, 4, 1);
    finish_and_check(&f, EXO_EFORMAT, "tensor 't' occurs twice");
    const uint64_t dims[] = {8, 4};
    static const uint64_t offsets[] = {32, 1, UINT64_MAX};
    for (size_t i = 0; i < 3; i++) {
        add_raw_tensor(&f, "t", 2, dims, EXO_F32, offsets[i]);
        f.w.data_bytes = 256;
        finish_and_check(&f, EXO_EFORMAT, "expected 0");
    }
    add_tensor(&f, "t", EXO_F32, 8, 4);
    f.no_data = true;
    finish_and_check(&f, EXO_EFORMAT, "pass the file's end");
    f.no_data = false;
    add_tensor(&f, "t", EXO_F32, 1, 1); /* its 4 bytes are there, their padding is not */
    finish_file(&f);
    f.file.n -= 1;
    check(&f, EXO_EFORMAT, "pass the file's end");
    free_fixture(&f);
}

static void every_failed_allocation_is_reported(void **ud) {
    (void)ud;
    fixture f;
    build_sample(&f);
    for (uint64_t k = 1;; k++) {
        exo_gguf *g;
        exo_error err = {0};
        exo_mem_fail_at(k);
        exo_status st = exo_gguf_open_memory(f.file.data, f.file.n, &g, &err);
        int failed = exo_mem_failed();
        exo_mem_fail_at(0);
        exo_gguf_close(g);
        if (!failed) {
            assert_int_equal(st, EXO_OK);
            assert_true(k > 4);
            break;
        }
        assert_int_equal(st, EXO_ENOMEM);
    }
    free_fixture(&f);
}

/* ---- files ---- */

typedef struct {
    char dir[64];
    char path[128];
} folder;

static void make_folder(folder *d) {
    snprintf(d->dir, sizeof d->dir, "/tmp/exo-gguf-test-XXXXXX");
    assert_non_null(mkdtemp(d->dir));
}

static void write_file(folder *d, const char *name, const exo_buf *b) {
    snprintf(d->path, sizeof d->path, "%s/%s", d->dir, name);
    FILE *out = fopen(d->path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(b->data, 1, b->n, out), b->n);
    assert_int_equal(fclose(out), 0);
}

static void remove_file(const folder *d, const char *name) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", d->dir, name);
    unlink(path);
}

static void build_part(fixture *f, uint32_t no, uint32_t says_no, uint32_t count) {
    char name[16];
    *f = (fixture){0};
    if (no == 0) exo_gguf_add_str(&f->w, "general.architecture", "llama");
    exo_gguf_add_u32(&f->w, "split.no", says_no);
    exo_gguf_add_u32(&f->w, "split.count", count);
    exo_gguf_add_u32(&f->w, "split.tensors.count", 5);
    for (uint32_t i = no * 2; i < no * 2 + 2 && i < 5; i++) {
        snprintf(name, sizeof name, "t%u", i);
        add_tensor(f, name, EXO_F32, 4, i + 1);
    }
    finish_file(f);
}

static void open_fails(const char *path, exo_status want, const char *message_part) {
    exo_gguf *g;
    exo_error err = {0};
    assert_int_equal(exo_gguf_open(path, &g, &err), want);
    if (strstr(err.message, message_part) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", err.message, message_part);
    }
    assert_null(g);
}

static void a_split_file_is_one_model(void **ud) {
    (void)ud;
    static const char *const names[] = {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf",
                                        "m-00003-of-00003.gguf"};
    folder d;
    fixture f;
    make_folder(&d);
    for (uint32_t i = 0; i < 3; i++) {
        build_part(&f, i, i, 3);
        write_file(&d, names[i], &f.file);
        free_fixture(&f);
    }
    for (uint32_t i = 0; i < 3; i++) { /* whichever part is named */
        exo_gguf *g;
        exo_error err = {0};
        char path[128];
        exo_str s;
        snprintf(path, sizeof path, "%s/%s", d.dir, names[i]);
        if (exo_gguf_open(path, &g, &err) != EXO_OK) fail_msg("%s", err.message);
        assert_int_equal(exo_gguf_n_tensors(g), 5);
        assert_true(exo_gguf_str(g, "general.architecture", &s));
        assert_int_equal(exo_gguf_find(g, "t3")->bytes, 64);
        assert_int_equal(exo_gguf_find(g, "t4")->data[0], 1);
        exo_gguf_close(g);
    }
    build_part(&f, 1, 2, 3);
    write_file(&d, names[1], &f.file);
    free_fixture(&f);
    open_fails(d.path, EXO_EFORMAT, "named part 2 of 3, but its metadata say part 3 of 3");
    build_part(&f, 2, 1, 3); /* one tensor too few */
    write_file(&d, names[1], &f.file);
    free_fixture(&f);
    open_fails(d.path, EXO_EFORMAT, "split.tensors.count is 5, found 4");
    remove_file(&d, names[1]);
    snprintf(d.path, sizeof d.path, "%s/%s", d.dir, names[0]);
    open_fails(d.path, EXO_ENOTFOUND, "m-00002-of-00003.gguf: cannot open");
    remove_file(&d, names[0]);
    remove_file(&d, names[2]);
    rmdir(d.dir);
}

static void dropped_pages_come_back_unchanged(void **ud) {
    (void)ud;
    folder d;
    fixture f = {0};
    exo_gguf *g;
    make_folder(&d);
    add_tensor(&f, "t", EXO_F32, 1024, 64);
    finish_file(&f);
    write_file(&d, "m.gguf", &f.file);
    assert_int_equal(exo_gguf_open(d.path, &g, NULL), EXO_OK);
    const exo_tensor *t = exo_gguf_find(g, "t");
    assert_memory_equal(t->data, f.file.data + (f.file.n - t->bytes), t->bytes);
    exo_gguf_drop_pages(g, t);
    assert_memory_equal(t->data, f.file.data + (f.file.n - t->bytes), t->bytes);
    exo_gguf_close(g);
    free_fixture(&f);
    unlink(d.path);
    rmdir(d.dir);
}

static void what_is_not_a_file_is_refused(void **ud) {
    (void)ud;
    folder d;
    make_folder(&d);
    open_fails(d.dir, EXO_EINVAL, "not a regular file");
    snprintf(d.path, sizeof d.path, "%s/fifo", d.dir);
    assert_int_equal(mkfifo(d.path, 0600), 0);
    open_fails(d.path, EXO_EINVAL, "not a regular file"); /* and does not wait for a writer */
    unlink(d.path);
    open_fails(d.path, EXO_ENOTFOUND, "fifo: cannot open");
    exo_buf empty = {0};
    exo_buf_puts(&empty, "x");
    empty.n = 0;
    write_file(&d, "empty.gguf", &empty);
    exo_buf_finish(&empty);
    open_fails(d.path, EXO_EFORMAT, "not a GGUF file");
    unlink(d.path);
    rmdir(d.dir);
}

static void real_files_open(void **ud) {
    (void)ud;
    static const struct {
        const char *name;
        size_t n_tensors;
    } files[] = {
        {"stories260K/stories260K-f32.gguf", 47},
        {"stories260K/stories260K-f16.gguf", 47},
        {"stories260K/stories260K-Q8_0.gguf", 47},
        {"stories260K/stories260K-Q4_0.gguf", 47},
        {"llama-2-tiny-random.gguf", 12},
        {"tokenizers/ggml-vocab-gpt-2.gguf", 0},
        {"tokenizers/ggml-vocab-llama-bpe.gguf", 0},
        {"tokenizers/ggml-vocab-llama-spm.gguf", 0},
        {"tokenizers/ggml-vocab-qwen2.gguf", 0},
    };
    struct stat st;
    if (stat(EXO_SHARED_DATA, &st) != 0) {
        print_message("skipped: no test data at %s\n", EXO_SHARED_DATA);
        skip();
    }
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[512];
        exo_gguf *g;
        exo_error err = {0};
        exo_gguf_type elem;
        size_t n;
        snprintf(path, sizeof path, "%s/%s", EXO_SHARED_DATA, files[i].name);
        if (exo_gguf_open(path, &g, &err) != EXO_OK) fail_msg("%s", err.message);
        assert_int_equal(exo_gguf_n_tensors(g), files[i].n_tensors);
        assert_true(exo_gguf_array(g, "tokenizer.ggml.tokens", &elem, &n));
        assert_true(elem == EXO_GGUF_STRING && n >= 512);
        exo_gguf_close(g);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_read_as_written),
        cmocka_unit_test(sparse_files_are_well_formed),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(no_changed_byte_is_dangerous),
        cmocka_unit_test(other_formats_and_versions_are_named),
        cmocka_unit_test(lying_counts_are_refused),
        cmocka_unit_test(bad_metadata_is_refused),
        cmocka_unit_test(bad_alignment_is_refused),
        cmocka_unit_test(bad_shapes_are_refused),
        cmocka_unit_test(bad_names_and_offsets_are_refused),
        cmocka_unit_test(every_failed_allocation_is_reported),
        cmocka_unit_test(a_split_file_is_one_model),
        cmocka_unit_test(dropped_pages_come_back_unchanged),
        cmocka_unit_test(what_is_not_a_file_is_refused),
        cmocka_unit_test(real_files_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
