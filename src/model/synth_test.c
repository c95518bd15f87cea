/* synth_test.c - synthetic models: the same bytes everywhere, weights of the promised size, files
 * that open, and failures that leave nothing behind. */
#define _DEFAULT_SOURCE /* mkdtemp, setrlimit */
#include "model/synth_impl.h"

#include "base/half.h"
#include "base/hash.h"
#include "base/le.h"
#include "base/mem.h"
#include "compute/blocks.h"
#include "model/hparams.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64], path[128];

static int make_dir(void **ud) {
    (void)ud;
    snprintf(dir, sizeof dir, "/tmp/exo-synth-test-XXXXXX");
    if (mkdtemp(dir) == NULL) return -1;
    snprintf(path, sizeof path, "%s/m.gguf", dir);
    return 0;
}

static int remove_dir(void **ud) {
    (void)ud;
    unlink(path);
    return rmdir(dir); /* fails when a temporary file was left */
}

static void assert_nothing_left(void) {
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (e->d_name[0] != '.') fail_msg("%s was left", e->d_name);
    }
    closedir(d);
}

static void write_ok(const exo_synth_desc *desc) {
    exo_error err = {0};
    if (exo_synth_write(desc, path, NULL, NULL, &err) != EXO_OK) fail_msg("%s", err.message);
}

/* ---- weights ---- */

static const exo_dtype all_types[] = {
    EXO_F32,   EXO_F16,   EXO_BF16,    EXO_Q4_0,   EXO_Q8_0,  EXO_Q4_K,    EXO_Q6_K,   EXO_Q4_1,
    EXO_Q5_0,  EXO_Q5_1,  EXO_Q2_K,    EXO_Q3_K,   EXO_Q5_K,  EXO_IQ4_NL,  EXO_IQ4_XS, EXO_MXFP4,
    EXO_IQ1_S, EXO_IQ1_M, EXO_IQ2_XXS, EXO_IQ2_XS, EXO_IQ2_S, EXO_IQ3_XXS, EXO_IQ3_S};
#define N_TYPES (sizeof all_types / sizeof *all_types)

static void weights_have_the_wanted_mean_and_deviation(void **ud) {
    (void)ud;
    for (size_t t = 0; t < N_TYPES; t++) {
        const exo_dtype_info *info = exo_dtype_get(all_types[t]);
        exo_synth_weights w = {.type = all_types[t], .key = 99, .std = 0.02f};
        size_t n_blocks = 200000 / info->block_elems;
        uint8_t *bytes = malloc(n_blocks * info->block_bytes);
        assert_non_null(bytes);
        exo_synth_fill(&w, 0, n_blocks, bytes);
        double sum = 0, squares = 0, n = 0;
        for (size_t i = 0; i < n_blocks; i++) {
            float v[256];
            exo_dequantize(w.type, bytes + i * info->block_bytes, info->block_elems, v);
            for (uint32_t k = 0; k < info->block_elems; k++, n++) {
                assert_true(fabsf(v[k]) < 0.2f);
                sum += (double)v[k];
                squares += (double)v[k] * (double)v[k];
            }
        }
        double mean = sum / n, std = sqrt(squares / n);
        if (fabs(mean) > 0.0008 || fabs(std - 0.02) > 0.0008) {
            fail_msg("%s: mean %g, deviation %g", info->name, mean, std);
        }
        free(bytes);
    }
}

static void any_cut_gives_the_same_bytes(void **ud) {
    (void)ud;
    for (size_t t = 0; t < N_TYPES; t++) {
        const exo_dtype_info *info = exo_dtype_get(all_types[t]);
        exo_synth_weights w = {.type = all_types[t], .key = 5, .mean = 1, .std = 0.5f};
        uint8_t whole[10 * 292], parts[10 * 292];
        exo_synth_fill(&w, 100, 10, whole);
        exo_synth_fill(&w, 103, 7, parts + (size_t)3 * info->block_bytes);
        exo_synth_fill(&w, 100, 3, parts);
        assert_memory_equal(whole, parts, (size_t)10 * info->block_bytes);
    }
}

/* ---- files ---- */

static void file_hash(char hex[EXO_SHA256_HEX_BYTES]) {
    static uint8_t bytes[1 << 16];
    uint8_t digest[EXO_SHA256_BYTES];
    exo_sha256 *h = exo_sha256_create();
    FILE *f = fopen(path, "rb");
    assert_non_null(h);
    assert_non_null(f);
    for (size_t n; (n = fread(bytes, 1, sizeof bytes, f)) > 0;) exo_sha256_update(h, bytes, n);
    exo_sha256_peek(h, digest);
    exo_hex(digest, sizeof digest, hex);
    exo_sha256_destroy(h);
    fclose(f);
}

/* Every machine must write these very bytes. */
static void files_are_the_same_everywhere(void **ud) {
    (void)ud;
    static const struct {
        const char *shape, *type, *sha256;
    } pinned[] = {
        {"test-256", "f32", "039cca79bd20fb17de1d95d2f20b5fdc15d350c8d3fdec218998ea468b7a866a"},
        {"test-256", "f16", "532e798fb1fde726983ea59516e154f06bc48b2a7cc1dd6365f3fffcf3f703c0"},
        {"test-256", "bf16", "17fd8fd9504d922cd783f8f75997beaec90ae3876b87866b3fe21eee319ee4c8"},
        {"test-256", "q4_0", "1dba95cae14f2e22c7d9306b653c6e9129d06b2ac67bad161f23326e921b218b"},
        {"test-256", "q8_0", "16feab8cf2aa1a1c1c3c2c0743e0115e2b437c8d25a53be6eb381350c8cc7a1f"},
        {"test-256", "q4_K_M", "553ec1c807b7645c790d9b57f8e6d95e315a16dc27ec9f0c7c149bfeeef10d62"},
        {"test-qwen2", "q6_K", "69f7a2235cccde2a4db25a4d88cd5371b8937c002922768f3ad3a9e3d1c8b006"},
        {"test-qwen3", "Q4_k", "7c970d0e02e510deaf6f85c6fee26eef1bd4d85e8a923937914c308a0bd63a92"},
    };
    bool changed = false;
    for (size_t i = 0; i < sizeof pinned / sizeof *pinned; i++) {
        char hex[EXO_SHA256_HEX_BYTES];
        write_ok(&(exo_synth_desc){.shape = pinned[i].shape, .type = pinned[i].type, .seed = 7});
        file_hash(hex);
        if (strcmp(hex, pinned[i].sha256) == 0) continue;
        print_error("%s %s: %s\n", pinned[i].shape, pinned[i].type, hex);
        changed = true;
    }
    assert_false(changed);
}

static void the_seed_and_nothing_else_changes_the_weights(void **ud) {
    (void)ud;
    char a[EXO_SHA256_HEX_BYTES], b[EXO_SHA256_HEX_BYTES];
    exo_synth_desc desc = {.shape = "test-256", .type = "q8_0", .seed = 1, .n_layers = 1};
    write_ok(&desc);
    file_hash(a);
    write_ok(&desc);
    file_hash(b);
    assert_string_equal(a, b);
    desc.seed = 2;
    write_ok(&desc);
    file_hash(b);
    assert_string_not_equal(a, b);
}

static void files_open_and_bind(void **ud) {
    (void)ud;
    static const struct {
        const char *shape, *type;
        uint32_t n_layers;
    } files[] = {
        {"test-256", "q4_K_M", 0},  {"test-qwen2", "f32", 0},   {"test-qwen3", "q8_0", 2},
        {"stories-15m", "q4_0", 0}, {"stories-15m", "q4_K", 1},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        const exo_synth_shape *shape = exo_synth_find_shape(files[i].shape);
        exo_gguf *g;
        exo_hparams hp;
        exo_model_tensors t;
        exo_error err = {0};
        write_ok(&(exo_synth_desc){.shape = files[i].shape,
                                   .type = files[i].type,
                                   .seed = 3,
                                   .n_layers = files[i].n_layers});
        exo_status st = exo_gguf_open(path, &g, &err);
        if (st == EXO_OK) st = exo_hparams_read(g, (exo_str){"s", 1}, &hp, &err);
        if (st == EXO_OK) st = exo_model_tensors_bind(g, &hp, &t, &err);
        if (st != EXO_OK) fail_msg("%s", err.message);
        assert_int_equal(hp.n_layers, files[i].n_layers != 0 ? files[i].n_layers : shape->n_layers);
        assert_int_equal(hp.head_dim, shape->head_dim);
        assert_int_equal(hp.n_vocab, shape->n_vocab);
        assert_int_equal(hp.tied_head, shape->tied);
        assert_int_equal(hp.qkv_bias, strcmp(shape->arch, "qwen2") == 0);
        exo_model_tensors_finish(&t);
        exo_gguf_close(g);
    }
}

static exo_dtype type_of(const exo_gguf *g, const char *name) {
    const exo_tensor *t = exo_gguf_find(g, name);
    if (t == NULL) fail_msg("no tensor %s", name);
    return t->type;
}

static void q4_K_M_mixes_as_llama_cpp_does(void **ud) {
    (void)ud;
    exo_gguf *g;
    write_ok(&(exo_synth_desc){.shape = "smollm2-135m",
                               .type = "q4_K_M",
                               .seed = 1,
                               .n_layers = 8}); /* K = 576: not whole blocks */
    assert_int_equal(exo_gguf_open(path, &g, NULL), EXO_OK);
    assert_int_equal(type_of(g, "token_embd.weight"), EXO_Q8_0);
    assert_int_equal(type_of(g, "blk.0.attn_q.weight"), EXO_Q8_0);
    static const exo_dtype down[] = {EXO_Q6_K, EXO_Q4_K, EXO_Q4_K, EXO_Q6_K,
                                     EXO_Q4_K, EXO_Q4_K, EXO_Q6_K, EXO_Q6_K};
    for (int il = 0; il < 8; il++) { /* 1536 is */
        char name[32];
        snprintf(name, sizeof name, "blk.%d.ffn_down.weight", il);
        assert_int_equal(type_of(g, name), down[il]);
    }
    exo_gguf_close(g);
    write_ok(&(exo_synth_desc){.shape = "test-256", .type = "q4_k_m", .seed = 1});
    assert_int_equal(exo_gguf_open(path, &g, NULL), EXO_OK);
    assert_int_equal(type_of(g, "token_embd.weight"), EXO_Q4_K);
    assert_int_equal(type_of(g, "output.weight"), EXO_Q6_K);
    assert_int_equal(type_of(g, "output_norm.weight"), EXO_F32);
    exo_gguf_close(g);
}

/* The formula of the models' configuration, written a second time. */
static void rope_factors_follow_llama_3(void **ud) {
    (void)ud;
    exo_gguf *g;
    write_ok(&(exo_synth_desc){
        .shape = "test-256", .type = "f16", .seed = 1, .n_layers = 1}); /* base 10000, factor 8 */
    assert_int_equal(exo_gguf_open(path, &g, NULL), EXO_OK);
    const exo_tensor *t = exo_gguf_find(g, "rope_freqs.weight");
    assert_int_equal(t->dims[0], 32);
    for (uint32_t i = 0; i < 32; i++) {
        double wavelength = 2 * 3.14159265358979323846 * pow(10000, 2.0 * i / 64), want = 1;
        if (wavelength > 8192) {
            want = 8;
        } else if (wavelength >= 2048) {
            double smooth = (8192 / wavelength - 1) / 3;
            want = 1 / ((1 - smooth) / 8 + smooth);
        }
        float got = exo_get_f32(t->data + 4 * i);
        assert_true(fabs((double)got - want) < want * 1e-6);
    }
    exo_gguf_close(g);
}

static void the_vocabulary_has_no_token_twice(void **ud) {
    (void)ud;
    exo_gguf *g;
    exo_gguf_type elem;
    size_t n;
    write_ok(&(exo_synth_desc){.shape = "test-256", .type = "q4_0", .seed = 1, .n_layers = 1});
    assert_int_equal(exo_gguf_open(path, &g, NULL), EXO_OK);
    assert_true(exo_gguf_array(g, "tokenizer.ggml.tokens", &elem, &n) && n == 512);
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < i; k++) {
            exo_str a, b;
            assert_true(exo_gguf_array_str(g, "tokenizer.ggml.tokens", i, &a));
            assert_true(exo_gguf_array_str(g, "tokenizer.ggml.tokens", k, &b));
            assert_false(a.n == b.n && memcmp(a.s, b.s, a.n) == 0);
        }
    }
    exo_gguf_close(g);
}

static void every_listed_shape_is_known(void **ud) {
    (void)ud;
    size_t n = 0;
    for (const char *const *s = exo_synth_shapes(); *s != NULL; s++, n++) {
        const exo_synth_shape *shape = exo_synth_find_shape(*s);
        assert_non_null(shape);
        assert_true(shape->n_vocab >= EXO_SYNTH_MIN_VOCAB && shape->head_dim <= EXO_MAX_HEAD_DIM);
        assert_int_equal(shape->n_heads % shape->n_kv_heads, 0);
    }
    assert_int_equal(n, 53);
}

/* ---- other numbers ---- */

static void settings_change_a_shape(void **ud) {
    (void)ud;
    const char *const settings[] = {"n_heads=6", "n_kv_heads=3", "head_dim=80", "window=7",
                                    "attn_softcap=2.5"};
    exo_gguf *g;
    uint32_t u;
    float f;
    write_ok(&(exo_synth_desc){
        .shape = "test-gemma2", .type = "q8_0", .settings = settings, .n_settings = 5});
    assert_int_equal(exo_gguf_open(path, &g, NULL), EXO_OK);
    assert_true(exo_gguf_u32(g, "gemma2.attention.key_length", &u) && u == 80);
    assert_true(exo_gguf_u32(g, "gemma2.attention.sliding_window", &u) && u == 7);
    assert_true(exo_gguf_f32(g, "gemma2.attn_logit_softcapping", &f) && f == 2.5f);
    assert_int_equal(exo_gguf_find(g, "blk.0.attn_q.weight")->dims[1], 480);
    assert_int_equal(exo_gguf_find(g, "blk.0.attn_k.weight")->dims[1], 240);
    exo_gguf_close(g);
}

/* ---- failures ---- */

static void fails(const exo_synth_desc *desc, exo_status want, const char *message_part) {
    exo_error err = {0};
    assert_int_equal(exo_synth_write(desc, path, NULL, NULL, &err), want);
    if (strstr(err.message, message_part) == NULL) fail_msg("\"%s\"", err.message);
    assert_nothing_left();
}

static void bad_settings_are_named(void **ud) {
    (void)ud;
    static const struct {
        const char *setting, *message;
    } cases[] = {
        {"n_heads", "sets no number"},           {"=3", "sets no number"},
        {"heads=3", "sets no number"},           {"n_heads=", "a whole number from 1"},
        {"n_heads=0", "a whole number"},         {"n_heads=2.5", "a whole number"},
        {"n_heads=4x", "a whole number"},        {"n_heads=nan", "a whole number"},
        {"window=7", "has no \"window\""},       {"rope_base=-1", "a number from"},
        {"n_kv_heads=3", "not a multiple"},      {"head_dim=33", "must be even"},
        {"n_experts_used=2", "above n_experts"}, {"n_vocab=511", "from 512"},
    };
    unlink(path);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fails(&(exo_synth_desc){.shape = "test-256",
                                .type = "q8_0",
                                .settings = &cases[i].setting,
                                .n_settings = 1},
              EXO_EINVAL, cases[i].message);
    }
}

static void bad_requests_are_named(void **ud) {
    (void)ud;
    unlink(path);
    fails(&(exo_synth_desc){.shape = "llama-9", .type = "q4_0"}, EXO_EINVAL,
          "unknown shape \"llama-9\"");
    fails(&(exo_synth_desc){.type = "q4_0"}, EXO_EINVAL, "unknown shape");
    fails(&(exo_synth_desc){.shape = "test-256", .type = "q5_7"}, EXO_EINVAL,
          "unknown type \"q5_7\"");
    fails(&(exo_synth_desc){.shape = "test-256", .type = "i8"}, EXO_EINVAL, "unknown type \"i8\"");
    fails(&(exo_synth_desc){.shape = "test-256"}, EXO_EINVAL, "unknown type");
    fails(&(exo_synth_desc){.shape = "test-256", .type = "f32", .n_layers = 5}, EXO_EINVAL,
          "5 layers, but test-256 has 4");
    exo_error err = {0};
    exo_synth_desc desc = {.shape = "test-256", .type = "f32"};
    assert_int_equal(exo_synth_write(&desc, "/nonexistent/m.gguf", NULL, NULL, &err), EXO_EIO);
    assert_non_null(strstr(err.message, "cannot create /nonexistent/m.gguf"));
}

static void a_full_disk_is_reported_and_leaves_nothing(void **ud) {
    (void)ud;
    struct rlimit before, small;
    unlink(path);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 100000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    exo_error err = {0};
    exo_synth_desc desc = {.shape = "test-256", .type = "q4_0"};
    exo_status st = exo_synth_write(&desc, path, NULL, NULL, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(st, EXO_EIO);
    assert_non_null(strstr(err.message, "100000 of "));
    assert_nothing_left();
}

static bool stop_at_half(void *ud, uint64_t done, uint64_t total) {
    uint64_t *last = ud;
    assert_true(done >= *last && done <= total);
    *last = done;
    return done < total / 2;
}

static void canceling_leaves_nothing(void **ud) {
    (void)ud;
    uint64_t last = 0;
    exo_synth_desc desc = {.shape = "test-256", .type = "f32"};
    unlink(path);
    assert_int_equal(exo_synth_write(&desc, path, stop_at_half, &last, NULL), EXO_ECANCELED);
    assert_true(last > 0);
    assert_nothing_left();
}

static bool stop_at_once(void *ud, uint64_t done, uint64_t total) {
    (void)ud, (void)done, (void)total;
    return false;
}

/* Asked before gigabytes are written; where they would fit, canceled at once. */
static void too_small_a_disk_is_seen_beforehand(void **ud) {
    (void)ud;
    struct statvfs fs;
    exo_error err = {0};
    exo_synth_desc desc = {.shape = "llama-3.3-70b", .type = "f32"};
    unlink(path);
    assert_int_equal(statvfs(dir, &fs), 0);
    bool fits = (uint64_t)fs.f_bavail * fs.f_frsize > 290000000000u;
    exo_status st = exo_synth_write(&desc, path, stop_at_once, NULL, &err);
    assert_int_equal(st, fits ? EXO_ECANCELED : EXO_EIO);
    if (!fits) assert_non_null(strstr(err.message, "are free on that disk"));
    assert_nothing_left();
}

static void failed_allocations_are_reported(void **ud) {
    (void)ud;
    exo_synth_desc desc = {.shape = "test-256", .type = "q4_0", .n_layers = 1};
    unlink(path);
    for (uint64_t k = 1;; k++) {
        exo_mem_fail_at(k);
        exo_status st = exo_synth_write(&desc, path, NULL, NULL, NULL);
        int failed = exo_mem_failed();
        exo_mem_fail_at(0);
        assert_int_equal(st, failed ? EXO_ENOMEM : EXO_OK);
        if (!failed) break;
        assert_nothing_left();
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_have_the_wanted_mean_and_deviation),
        cmocka_unit_test(any_cut_gives_the_same_bytes),
        cmocka_unit_test(files_are_the_same_everywhere),
        cmocka_unit_test(the_seed_and_nothing_else_changes_the_weights),
        cmocka_unit_test(files_open_and_bind),
        cmocka_unit_test(q4_K_M_mixes_as_llama_cpp_does),
        cmocka_unit_test(rope_factors_follow_llama_3),
        cmocka_unit_test(the_vocabulary_has_no_token_twice),
        cmocka_unit_test(every_listed_shape_is_known),
        cmocka_unit_test(settings_change_a_shape),
        cmocka_unit_test(bad_settings_are_named),
        cmocka_unit_test(bad_requests_are_named),
        cmocka_unit_test(a_full_disk_is_reported_and_leaves_nothing),
        cmocka_unit_test(canceling_leaves_nothing),
        cmocka_unit_test(too_small_a_disk_is_seen_beforehand),
        cmocka_unit_test(failed_allocations_are_reported),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
