/* model_test.c - whole models: opened, shared, split into parts, refused.
 *
 * The files are synthetic ones, and the real ones of the shared test data where they are there. */
#define _DEFAULT_SOURCE /* mkdtemp */
#include "model/model.h"

#include "base/mem.h"
#include "model/gguf_writer.h"
#include "model/synth.h"
#include "model/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define N_PARTS 3

static char dir[64], synth_path[128];

static int write_synth(void **ud) {
    (void)ud;
    exo_synth_desc desc = {.shape = "test-256", .type = "q4_K_M", .seed = 1, .n_layers = 2};
    snprintf(dir, sizeof dir, "/tmp/exo-model-test-XXXXXX");
    if (mkdtemp(dir) == NULL) return -1;
    snprintf(synth_path, sizeof synth_path, "%s/random.gguf", dir);
    return exo_synth_write(&desc, synth_path, NULL, NULL, NULL);
}

static int remove_synth(void **ud) {
    (void)ud;
    unlink(synth_path);
    return rmdir(dir);
}

static exo_model *open_ok(const char *path) {
    exo_model *m;
    exo_error err = {0};
    if (exo_model_open(path, &m, &err) != EXO_OK) fail_msg("%s", err.message);
    return m;
}

static void fails(const char *path, exo_status want, const char *message_part) {
    exo_model *m;
    exo_error err = {0};
    assert_int_equal(exo_model_open(path, &m, &err), want);
    assert_null(m);
    if (strstr(err.message, message_part) == NULL) fail_msg("\"%s\"", err.message);
}

static void a_synthetic_model_opens_whole(void **ud) {
    (void)ud;
    exo_model *m = open_ok(synth_path);
    const exo_hparams *hp = exo_model_hparams(m);
    exo_layer_tensors t;
    exo_error err = {0};
    assert_string_equal(exo_model_id(m), "random");
    assert_string_equal(hp->name, "synthetic test-256");
    assert_int_equal(exo_tokenizer_n_vocab(exo_model_tokenizer(m)), hp->n_vocab);
    assert_non_null(exo_model_template(m));
    assert_null(exo_model_template_error(m));
    assert_int_equal(exo_model_layer(m, 1, &t, &err), EXO_OK);
    assert_ptr_equal(t.down, exo_gguf_find(exo_model_file(m), "blk.1.ffn_down.weight"));
    assert_null(t.q_bias);
    assert_int_equal(exo_model_layer(m, 2, &t, &err), EXO_EINVAL);
    assert_non_null(strstr(err.message, "layer 2 of a model with 2 layers"));
    assert_null(t.q);
    assert_ptr_equal(exo_model_head(m), exo_gguf_find(exo_model_file(m), "output.weight"));

    exo_model *second = exo_model_ref(m);
    exo_model_unref(m);
    assert_string_equal(exo_model_id(second), "random");
    exo_model_unref(second);
    exo_model_unref(NULL);
}

static void ranges_add_up_to_the_file(void **ud) {
    (void)ud;
    exo_model *m = open_ok(synth_path);
    uint64_t factors = exo_gguf_find(exo_model_file(m), "rope_freqs.weight")->bytes;
    uint64_t all = exo_gguf_bytes(exo_model_file(m)) - factors;
    uint64_t cut =
        exo_model_range_bytes(m, 0, 1, true, false) + exo_model_range_bytes(m, 1, 2, false, true);
    assert_int_equal(exo_model_range_bytes(m, 0, 2, true, true), all);
    assert_int_equal(cut, all);
    assert_int_equal(exo_model_range_bytes(m, 1, 1, false, false), 0);
    exo_model_unref(m);

    char tied[128];
    snprintf(tied, sizeof tied, "%s/tied.gguf", dir);
    exo_synth_desc desc = {.shape = "test-qwen3", .type = "q8_0", .n_layers = 1};
    assert_int_equal(exo_synth_write(&desc, tied, NULL, NULL, NULL), EXO_OK);
    m = open_ok(tied);
    uint64_t table = exo_model_embedding(m)->bytes, norm = exo_model_final_norm(m)->bytes;
    assert_ptr_equal(exo_model_head(m), exo_model_embedding(m));
    assert_int_equal(exo_model_range_bytes(m, 0, 0, true, true), table + norm); /* once */
    assert_int_equal(exo_model_range_bytes(m, 0, 0, false, true), table + norm);
    exo_model_unref(m);
    unlink(tied);
}

/* ---- split files ---- */

static void part_path(char out[160], int no, int count) {
    snprintf(out, 160, "%s/split-%05d-of-%05d.gguf", dir, no, count);
}

/* Copies the metadata that matter and every third tensor into one part. */
static void write_part(const exo_gguf *g, uint32_t no) {
    exo_gguf_writer w = {0};
    exo_buf file = {0};
    char path[160];
    exo_gguf_add_u32(&w, "split.no", no);
    exo_gguf_add_u32(&w, "split.count", N_PARTS);
    exo_gguf_add_u32(&w, "split.tensors.count", (uint32_t)exo_gguf_n_tensors(g));
    if (no == 0) {
        /* The original's metadata, byte for byte: they lie between its header and the first
         * tensor's name. */
        const exo_tensor *first = exo_gguf_tensor(g, 0);
        FILE *f = fopen(synth_path, "rb");
        static char head[1 << 17];
        assert_non_null(f);
        size_t n = fread(head, 1, sizeof head, f);
        fclose(f);
        size_t at = 24;
        while (at + 8 < n && (memcmp(head + at, first->name.s, first->name.n) != 0 ||
                              head[at - 8] != (char)first->name.n)) {
            at++;
        }
        exo_buf_append(&w.kvs, head + 24, at - 8 - 24);
        w.n_kvs += (uint8_t)head[16];
    }
    for (size_t i = no; i < exo_gguf_n_tensors(g); i += N_PARTS) {
        const exo_tensor *t = exo_gguf_tensor(g, i);
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.s);
        exo_gguf_add_tensor(&w, name, t->type, t->n_dims, t->dims);
    }
    exo_gguf_writer_head(&w, &file);
    for (size_t i = no; i < exo_gguf_n_tensors(g); i += N_PARTS) {
        const exo_tensor *t = exo_gguf_tensor(g, i);
        exo_buf_append(&file, t->data, (size_t)exo_gguf_padded(t->bytes));
    }
    part_path(path, (int)no + 1, N_PARTS);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(file.data, 1, file.n, f), file.n);
    assert_int_equal(fclose(f), 0);
    exo_gguf_writer_finish(&w);
    exo_buf_finish(&file);
}

static void a_split_model_equals_the_whole(void **ud) {
    (void)ud;
    char path[160], lone[160];
    exo_model *whole = open_ok(synth_path);
    for (uint32_t i = 0; i < N_PARTS; i++) write_part(exo_model_file(whole), i);
    part_path(path, 2, N_PARTS);
    exo_model *split = open_ok(path);
    assert_string_equal(exo_model_id(split), "split");
    const exo_hparams *a = exo_model_hparams(split), *b = exo_model_hparams(whole);
    assert_string_equal(a->name, b->name);
    assert_int_equal(a->n_layers, b->n_layers);
    assert_memory_equal(a->rope.inv_freq, b->rope.inv_freq, sizeof a->rope.inv_freq);
    for (size_t i = 0; i < exo_gguf_n_tensors(exo_model_file(whole)); i++) {
        const exo_tensor *t = exo_gguf_tensor(exo_model_file(whole), i);
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.s);
        const exo_tensor *s = exo_gguf_find(exo_model_file(split), name);
        assert_non_null(s);
        assert_int_equal(s->bytes, t->bytes);
        assert_memory_equal(s->data, t->data, t->bytes);
    }
    exo_model_unref(split);
    exo_model_unref(whole);

    snprintf(lone, sizeof lone, "%s/lone.gguf", dir);
    assert_int_equal(rename(path, lone), 0);
    fails(lone, EXO_EINVAL, "one part of 3 of a split model: its name must end in -00002-of-00003");
    unlink(lone);
    part_path(path, 1, N_PARTS);
    fails(path, EXO_ENOTFOUND, "split-00002-of-00003.gguf: cannot open");
    unlink(path);
    part_path(path, 3, N_PARTS);
    unlink(path);
}

/* ---- refused ---- */

static void errors_name_the_file(void **ud) {
    (void)ud;
    char path[160];
    snprintf(path, sizeof path, "%s/bare.gguf", dir);
    fails(path, EXO_ENOTFOUND, "bare.gguf: cannot open");
    exo_gguf_writer w = {0};
    exo_buf file = {0};
    exo_gguf_writer_head(&w, &file);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(file.data, 1, file.n, f), file.n);
    fclose(f);
    exo_buf_finish(&file);
    fails(path, EXO_EFORMAT, "bare.gguf: metadata key general.architecture is missing");
    unlink(path);
}

static void failed_allocations_are_reported(void **ud) {
    (void)ud;
    for (uint64_t k = 1;; k++) {
        exo_model *m;
        exo_mem_fail_at(k);
        exo_status st = exo_model_open(synth_path, &m, NULL);
        int failed = exo_mem_failed();
        exo_mem_fail_at(0);
        if (!failed) assert_int_equal(st, EXO_OK);
        if (st != EXO_OK) {
            assert_int_equal(st, EXO_ENOMEM);
            assert_null(m);
        }
        exo_model_unref(m);
        if (!failed) break;
    }
}

static void real_models_open(void **ud) {
    (void)ud;
    static const char *const names[] = {
        "stories260K/stories260K-f32.gguf", "stories260K/stories260K-f16.gguf",
        "stories260K/stories260K-Q8_0.gguf", "stories260K/stories260K-Q4_0.gguf",
        "llama-2-tiny-random.gguf"};
    struct stat st;
    if (stat(EXO_SHARED_DATA, &st) != 0) {
        print_message("skipped: no test data at %s\n", EXO_SHARED_DATA);
        skip();
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", EXO_SHARED_DATA, names[i]);
        exo_model *m = open_ok(path);
        const exo_hparams *hp = exo_model_hparams(m);
        bool stories = i < 4;
        assert_int_equal(hp->n_embd, stories ? 64 : 8);
        assert_int_equal(hp->head_dim, stories ? 8 : 4);
        assert_int_equal(hp->n_vocab, stories ? 512 : 32000);
        assert_int_equal(hp->tied_head, stories);
        exo_model_unref(m);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_synthetic_model_opens_whole),
        cmocka_unit_test(ranges_add_up_to_the_file),
        cmocka_unit_test(a_split_model_equals_the_whole),
        cmocka_unit_test(errors_name_the_file),
        cmocka_unit_test(failed_allocations_are_reported),
        cmocka_unit_test(real_models_open),
    };
    return cmocka_run_group_tests(tests, write_synth, remove_synth);
}
