/* selftest.c - the trials of one device: each kernel on small golden problems.
 *
 * A kernel's best variant is tried first and kept when it passes; plainer ones are tried only when
 * it does not, because compiling is what takes the time.  Later kernels run beside what earlier
 * ones ended with; operations whose kernels are absent go to the CPU meanwhile. */
#include "compute/vulkan/selftest.h"

#include "compute/vulkan/golden.h"

#include <string.h>

static const exo_dtype types[] = {EXO_F32,  EXO_F16,  EXO_BF16, EXO_Q4_0,
                                  EXO_Q8_0, EXO_Q4_K, EXO_Q6_K};
#define N_TYPES (sizeof types / sizeof types[0])

/* One column and a full tile; a pair of gate and up; what does not fill the last group. */
static exo_status try_product(exo_device *d, exo_dtype type, exo_error *err) {
    exo_vk_product_case c = {.type = {type, type, type},
                             .n_parts = 3,
                             .n_rows = {37, 9, 16},
                             .n_cols = 512,
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

/* A product whose wide steps take 1 / rms from a dispatch of its own; of a type that works. */
static exo_status try_rms(exo_device *d, exo_error *err) {
    for (size_t i = 0; i < N_TYPES; i++) {
        if (!d->absent[EXO_VK_KERNEL_matmul_f32 + i]) return try_product(d, types[i], err);
    }
    return exo_error_set(err, EXO_EUNSUPPORTED, "no product works that would need it");
}

static exo_status try_kernel(exo_device *d, exo_vk_kernel k, exo_error *err) {
    if (k < EXO_VK_KERNEL_matmul_f32 + N_TYPES) {
        return try_product(d, types[k - EXO_VK_KERNEL_matmul_f32], err);
    }
    if (k < EXO_VK_KERNEL_embed_f32 + N_TYPES) {
        return try_embed(d, types[k - EXO_VK_KERNEL_embed_f32], err);
    }
    switch (k) {
    case EXO_VK_KERNEL_elementwise: return try_elementwise(d, err);
    case EXO_VK_KERNEL_rms: return try_rms(d, err);
    default: return try_attention(d, err);
    }
}

typedef exo_status (*trial_fn)(exo_device *d, exo_vk_kernel k, exo_error *err);

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
        exo_status st = trial(d, k, why);
        exo_vk_trial_end(t, st == EXO_OK, st == EXO_OK ? NULL : why->message);
        if (st == EXO_OK || atomic_load(&d->vk->lost)) return;
    }
    d->absent[k] = true;
}

static exo_status try_round(exo_device *d, exo_vk_kernel k, exo_error *err) {
    (void)k;
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
    for (int k = EXO_VK_KERNEL_rope_kv; k < EXO_VK_N_KERNELS && !atomic_load(&d->vk->lost); k++) {
        bool rope = d->absent[EXO_VK_KERNEL_rope_kv];
        if (k == EXO_VK_KERNEL_attention) d->absent[EXO_VK_KERNEL_rope_kv] = false;
        bool on_cpu = k > EXO_VK_KERNEL_attention && (rope || d->absent[EXO_VK_KERNEL_attention]);
        if (!on_cpu) try_variants(d, (exo_vk_kernel)k, try_kernel, t, why);
        d->absent[EXO_VK_KERNEL_rope_kv] = d->absent[EXO_VK_KERNEL_rope_kv] || rope;
    }
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
    if (atomic_load(&vk->lost)) {
        st = exo_error_set(err, EXO_EIO, "the device was lost in its self-test: %s", why.message);
    }
    exo_vk_device_unwrap(d);
    return st;
}
