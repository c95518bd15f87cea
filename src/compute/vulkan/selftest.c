/* selftest.c - the trials of one device: each kernel on small golden problems.
 *
 * A kernel's best variant is tried first and kept when it passes; plainer ones are tried only when
 * it does not, because compiling is what takes the time.  Later kernels run beside what earlier
 * ones ended with; operations whose kernels are absent go to the CPU meanwhile.  lavapipe compiles
 * a kernel again for views of a power of two of texels: inputs here are never as long.
 *
 * Last, where a device computes prompts with kernels of their own, these are timed against those
 * that serve all rows.  That informs people and decides nothing: a choice by time would make bits
 * depend on how busy the machine was. */
#include "compute/vulkan/selftest.h"

#include "compute/vulkan/golden.h"
#include "compute/vulkan/golden_head.h"
#include "compute/vulkan/speed.h"
#include "compute/vulkan/weight.h"

#include <stdio.h>
#include <string.h>

static const exo_dtype types[EXO_VK_WEIGHT_TYPES] = {
    EXO_F32,  EXO_F16,  EXO_BF16, EXO_Q4_0, EXO_Q8_0, EXO_Q4_K,   EXO_Q6_K,   EXO_Q4_1,
    EXO_Q5_0, EXO_Q5_1, EXO_Q2_K, EXO_Q3_K, EXO_Q5_K, EXO_IQ4_NL, EXO_IQ4_XS, EXO_MXFP4};
#define N_TYPES (sizeof types / sizeof types[0])

/* One column and a full tile; a pair of gate and up; what does not fill the last group. */
static exo_status try_product(exo_device *d, exo_dtype type, exo_error *err) {
    exo_vk_product_case c = {.type = {type, type, type},
                             .n_parts = 3,
                             .n_rows = {37, 9, 16},
                             .n_cols = 768,
                             .n = 1,
                             .norm = true,
                             .bias = true,
                             .epilogue = EXO_EPILOGUE_STORE,
                             .seed = (uint64_t)type + 1};
    exo_status st = exo_vk_check_product(d, &c, err);
    c.n = 5;
    if (st == EXO_OK) st = exo_vk_check_product(d, &c, err);
    c.n_parts = 1;
    c.norm = c.bias = false;
    c.epilogue = EXO_EPILOGUE_ADD;
    if (st == EXO_OK) st = exo_vk_check_product(d, &c, err);
    c.n_parts = 2;
    c.n_rows[1] = c.n_rows[0];
    c.norm = true;
    c.epilogue = EXO_EPILOGUE_SILU_MUL;
    for (c.n = 1; st == EXO_OK && c.n <= 5; c.n += 4) st = exo_vk_check_product(d, &c, err);
    return st;
}

static exo_status try_embed(exo_device *d, exo_dtype type, exo_error *err) {
    exo_vk_embed_case c = {
        .type = type, .n_rows = 37, .n_cols = 512, .n = 5, .next_norm = true, .seed = 5};
    return exo_vk_check_embed(d, &c, err);
}

/* Both orders of pairs, both page types; in heads so small that attention, in its plain variant at
 * this point, takes no time to compile. */
static exo_status try_rope(exo_device *d, exo_error *err) {
    exo_vk_attention_case c = {.n_heads = 3,
                               .n_kv_heads = 3,
                               .head_dim = 12,
                               .rope_dims = 12,
                               .qk_norm = true,
                               .kv_type = EXO_F16,
                               .n_tokens = 40,
                               .chunk = 3,
                               .seed = 17};
    exo_status st = exo_vk_check_attention(d, &c, err);
    c.neox = true;
    c.qk_norm = false;
    c.rope_dims = 8;
    c.kv_type = EXO_F32;
    return st == EXO_OK ? exo_vk_check_attention(d, &c, err) : st;
}

/* Both orders of pairs, both page types, one and two splits, grouped heads. */
static exo_status try_attention(exo_device *d, exo_error *err) {
    exo_vk_attention_case c = {.n_heads = 4,
                               .n_kv_heads = 2,
                               .head_dim = 48,
                               .rope_dims = 48,
                               .qk_norm = true,
                               .kv_type = EXO_F16,
                               .n_tokens = 40,
                               .chunk = 3,
                               .seed = 7};
    exo_status st = exo_vk_check_attention(d, &c, err);
    c.neox = true;
    c.qk_norm = false;
    c.head_dim = 64;
    c.rope_dims = 32;
    c.kv_type = EXO_F32;
    c.n_tokens = 260;
    c.chunk = 130;
    if (st == EXO_OK) st = exo_vk_check_attention(d, &c, err);
    c.n_heads = c.n_kv_heads = 1;
    c.chunk = 8;
    return st == EXO_OK ? exo_vk_check_attention(d, &c, err) : st;
}

static exo_status try_elementwise(exo_device *d, exo_error *err) {
    exo_vk_product_case c = {.type = {EXO_F32, EXO_F16},
                             .n_parts = 2,
                             .n_rows = {37, 37},
                             .n_cols = 64,
                             .n = 3,
                             .norm = true,
                             .epilogue = EXO_EPILOGUE_SILU_MUL,
                             .seed = 11};
    exo_status st = exo_vk_check_product(d, &c, err);
    return st == EXO_OK ? exo_vk_check_round(d, 3, 37, err) : st;
}

/* Few ids and many, with the total; scores; a row whose end does not fill a block. */
static exo_status try_head(exo_device *d, exo_error *err) {
    exo_vk_head_case c = {
        .n_vocab = 5003, .n = 2, .ask = {.kind = EXO_HEAD_HIGHEST, .n_ids = 1}, .seed = 13};
    exo_status st = exo_vk_check_head(d, &c, err);
    c.ask.n_ids = 40;
    c.ask.total = true;
    if (st == EXO_OK) st = exo_vk_check_head(d, &c, err);
    c.ask = (exo_head_ask){.kind = EXO_HEAD_SCORES,
                           .n_ids = 16,
                           .temperature = 0.7f,
                           .seed = UINT64_C(0x123456789ABCDEF0),
                           .choice = 3,
                           .position = 77};
    return st == EXO_OK ? exo_vk_check_head(d, &c, err) : st;
}

/* A product whose wide steps take 1 / rms from a dispatch of its own; of a type that works. */
static exo_status try_rms(exo_device *d, exo_error *err) {
    for (size_t i = 0; i < N_TYPES; i++) {
        if (!d->absent[EXO_VK_KERNEL_matmul_f32 + i]) return try_product(d, types[i], err);
    }
    return exo_error_set(err, EXO_EUNSUPPORTED, "no product works that would need it");
}

/* As try_product, of rows that the dot kernel serves. */
static exo_status try_dot(exo_device *d, exo_dtype type, exo_error *err) {
    exo_vk_product_case c = {.type = {type, type, type},
                             .n_parts = 3,
                             .n_rows = {37, 9, 16},
                             .n_cols = 768,
                             .n = 1,
                             .norm = true,
                             .bias = true,
                             .prompt = true,
                             .epilogue = EXO_EPILOGUE_STORE,
                             .seed = (uint64_t)type + 100};
    exo_vk_shaders_use_dot(&d->shaders, type, true);
    exo_status st = exo_vk_check_product(d, &c, err);
    c.n = 9; /* more columns than one lane takes */
    if (st == EXO_OK) st = exo_vk_check_product(d, &c, err);
    c.n_parts = 2;
    c.n_rows[1] = c.n_rows[0];
    c.bias = false;
    c.epilogue = EXO_EPILOGUE_SILU_MUL;
    if (st == EXO_OK) st = exo_vk_check_product(d, &c, err);
    exo_vk_shaders_use_dot(&d->shaders, type, false);
    return st;
}

static exo_status try_quantize(exo_device *d, exo_error *err) {
    exo_status st = exo_vk_check_quantize(d, EXO_Q8_0, 2, 96, err);
    return st == EXO_OK ? exo_vk_check_quantize(d, EXO_Q4_K, 1, 768, err) : st;
}

static exo_dtype dot_type(exo_vk_kernel k) {
    size_t i = 0;
    while (exo_vk_dot_kernel(types[i]) != k) i++;
    return types[i];
}

/* The kernel that measures: what it finds goes with the verdict. */
static exo_status try_speed(exo_device *d, exo_vk_trials *t, exo_error *err) {
    exo_vk_speed speed = {0};
    exo_status st = exo_vk_measure_speed(d, &speed, err);
    if (st != EXO_OK) return st;
    exo_vk_trials_set_gflops(t, speed.gflops);
    exo_vk_trials_set_read_gbps(t, speed.read_gbps);
    return EXO_OK;
}

static exo_status try_kernel(exo_device *d, exo_vk_kernel k, exo_vk_trials *t, exo_error *err) {
    if (k < EXO_VK_KERNEL_matmul_f32 + N_TYPES) {
        return try_product(d, types[k - EXO_VK_KERNEL_matmul_f32], err);
    }
    if (k < EXO_VK_KERNEL_embed_f32 + N_TYPES) {
        return try_embed(d, types[k - EXO_VK_KERNEL_embed_f32], err);
    }
    if (exo_vk_kernel_is_dot(k)) return try_dot(d, dot_type(k), err);
    switch (k) {
    case EXO_VK_KERNEL_quantize: return try_quantize(d, err);
    case EXO_VK_KERNEL_elementwise: return try_elementwise(d, err);
    case EXO_VK_KERNEL_rms: return try_rms(d, err);
    case EXO_VK_KERNEL_head_top: return try_head(d, err);
    case EXO_VK_KERNEL_speed: return try_speed(d, t, err);
    case EXO_VK_KERNEL_rope_kv: return try_rope(d, err);
    default: return try_attention(d, err);
    }
}

typedef exo_status (*trial_fn)(exo_device *d, exo_vk_kernel k, exo_vk_trials *t, exo_error *err);

/* Tries the variants of kernel k from the best one down, and leaves the first good one chosen.
 * Without one the kernel is absent: the trials of others go without it, as plans will. */
static void try_variants(exo_device *d, exo_vk_kernel k, trial_fn trial, exo_vk_trials *t,
                         exo_error *why) {
    d->absent[k] = false;
    for (int i = exo_vk_variant_best(d->vk, k); i >= EXO_VK_SHARED; i--) {
        exo_vk_variant v = (exo_vk_variant)i;
        if (!exo_vk_variant_possible(d->vk, k, v) ||
            !exo_vk_trial_begin(t, exo_vk_kernel_name(k), exo_vk_variant_name(v))) {
            continue;
        }
        exo_vk_shaders_choose(&d->shaders, k, v);
        exo_status st = trial(d, k, t, why);
        exo_vk_trial_end(t, st == EXO_OK, st == EXO_OK ? NULL : why->message);
        if (st == EXO_OK || atomic_load(&d->vk->lost)) return;
    }
    d->absent[k] = true;
}

static exo_status try_round(exo_device *d, exo_vk_kernel k, exo_vk_trials *t, exo_error *err) {
    (void)k;
    (void)t;
    return exo_vk_check_round(d, 3, 37, err);
}

/* In an order in which no trial needs a kernel that may still be bad, as far as that goes: single
 * elements first, products before what makes them faster, and attention with rotation, of which
 * each stands between the other and its result. */
static void try_all(exo_device *d, exo_vk_trials *t, exo_error *why) {
    try_variants(d, EXO_VK_KERNEL_elementwise, try_round, t, why);
    if (d->absent[EXO_VK_KERNEL_elementwise]) return;
    d->absent[EXO_VK_KERNEL_rms] = d->absent[EXO_VK_KERNEL_attention_combine] = true;
    for (int k = 0; k < EXO_VK_KERNEL_rope_kv && !atomic_load(&d->vk->lost); k++) {
        try_variants(d, (exo_vk_kernel)k, try_kernel, t, why);
    }
    for (int k = EXO_VK_KERNEL_rope_kv; k < EXO_VK_FIRST_OPTIONAL && !atomic_load(&d->vk->lost);
         k++) {
        bool rope = d->absent[EXO_VK_KERNEL_rope_kv];
        if (k == EXO_VK_KERNEL_attention) d->absent[EXO_VK_KERNEL_rope_kv] = false;
        bool on_cpu = k > EXO_VK_KERNEL_attention && (rope || d->absent[EXO_VK_KERNEL_attention]);
        if (!on_cpu) try_variants(d, (exo_vk_kernel)k, try_kernel, t, why);
        d->absent[EXO_VK_KERNEL_rope_kv] = d->absent[EXO_VK_KERNEL_rope_kv] || rope;
    }
    for (int k = EXO_VK_FIRST_OPTIONAL; k < EXO_VK_N_KERNELS && !atomic_load(&d->vk->lost); k++) {
        if (d->absent[EXO_VK_KERNEL_rms] && exo_vk_kernel_is_dot((exo_vk_kernel)k)) {
            d->absent[k] = true; /* they have no norm of their own */
        } else {
            bool quantize = d->absent[EXO_VK_KERNEL_quantize]; /* its trial needs one of them */
            d->absent[EXO_VK_KERNEL_quantize] = false;
            try_variants(d, (exo_vk_kernel)k, try_kernel, t, why);
            d->absent[EXO_VK_KERNEL_quantize] = d->absent[EXO_VK_KERNEL_quantize] || quantize;
        }
    }
}

/* ---- what kernels for prompts are worth ---- */

#define ENOUGH_S 0.002 /* one timed product takes at least so long, or is the largest */

/* Products of growing size until one takes long enough to be timed. */
static exo_status time_dot(exo_device *d, exo_dtype type, double per_s[2], exo_error *err) {
    static const uint32_t sizes[][3] = {
        {256, 768, 16}, {1024, 768, 16}, {1024, 3072, 32}, {4096, 3072, 64}, {4096, 3072, 256}};
    exo_status st = EXO_OK;
    exo_vk_shaders_use_dot(&d->shaders, type, true);
    for (size_t i = 0; st == EXO_OK && i < sizeof sizes / sizeof sizes[0]; i++) {
        exo_vk_timing_case c = {type, sizes[i][0], sizes[i][1], sizes[i][2]};
        st = exo_vk_time_product(d, &c, per_s, err);
        double slower = per_s[0] < per_s[1] ? per_s[0] : per_s[1];
        if ((double)c.n_rows * c.n_cols * c.n >= ENOUGH_S * slower) break;
    }
    exo_vk_shaders_use_dot(&d->shaders, type, false);
    return st;
}

static void compare_speeds(exo_device *d, exo_dtype type, exo_vk_trials *t) {
    char name[32], figures[96];
    double per_s[2];
    exo_error why = {.message = ""};
    const char *kernel = exo_vk_kernel_name(exo_vk_dot_kernel(type)); /* "dot_q8_0" */
    (void)snprintf(name, sizeof name, "prompt%s", strchr(kernel, '_'));
    if (!exo_vk_trial_begin(t, name, "dot")) return;
    bool timed = time_dot(d, type, per_s, &why) == EXO_OK;
    if (timed) {
        (void)snprintf(figures, sizeof figures, "%.3g GFLOP/s; with f32 inputs %.3g",
                       2e-9 * per_s[1], 2e-9 * per_s[0]);
    }
    exo_vk_trial_end(t, timed, timed ? figures : why.message);
}

static void compare_all_speeds(exo_device *d, exo_vk_trials *t) {
    if (d->absent[EXO_VK_KERNEL_quantize]) return;
    for (size_t i = 0; i < N_TYPES && !atomic_load(&d->vk->lost); i++) {
        exo_vk_kernel k = exo_vk_dot_kernel(types[i]);
        if (k == EXO_VK_N_KERNELS || d->absent[k]) continue;
        if (!d->absent[EXO_VK_KERNEL_matmul_f32 + i]) compare_speeds(d, types[i], t);
    }
}

/* The pipelines that were good are kept, and a driver that chokes on its own data is found out. */
static void try_cache(exo_device *d, exo_vk_trials *t) {
    if (!exo_vk_trial_begin(t, EXO_VK_TRIAL_CACHE, EXO_VK_TRIAL_DISK)) return;
    exo_error why = {.message = ""};
    exo_vk_pipeline_cache_save(d->vk, &d->shaders.cache);
    exo_status st = exo_vk_shaders_keep(&d->shaders, &why);
    exo_vk_trial_end(t, st == EXO_OK, st == EXO_OK ? NULL : why.message);
}

exo_status exo_vk_selftest(exo_vk_device *vk, exo_vk_trials *t, exo_error *err) {
    exo_device *d;
    exo_error why = {.message = ""};
    exo_status st = exo_vk_device_wrap(vk, &d, err);
    if (st != EXO_OK) return st;
    for (int k = 0; k < EXO_VK_N_KERNELS; k++) {
        exo_vk_shaders_choose(&d->shaders, (exo_vk_kernel)k, EXO_VK_SHARED);
    }
    try_all(d, t, &why);
    if (vk->caps.dot_product_accelerated) compare_all_speeds(d, t);
    if (atomic_load(&vk->lost)) {
        st = exo_error_set(err, EXO_EIO, "the device was lost in its self-test: %s", why.message);
    }
    if (st == EXO_OK) try_cache(d, t);
    exo_vk_device_unwrap(d);
    return st;
}
