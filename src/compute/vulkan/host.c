/* host.c - absent kernels, and the CPU device that stands in for them. */
#include "compute/vulkan/host.h"

#include "compute/vulkan/weight.h"

#include <stdio.h>
#include <string.h>

static bool is_product(exo_vk_kernel k) {
    return k >= EXO_VK_KERNEL_matmul_f32 && k < EXO_VK_KERNEL_matmul_f32 + EXO_VK_WEIGHT_TYPES;
}

bool exo_vk_absent(const exo_vk_verdict *v, exo_vk_kernel k, const char **reason) {
    const char *name = exo_vk_kernel_name(k), *last = "it was never tried";
    for (uint32_t i = 0; i < v->n_trials; i++) {
        const exo_vk_trial_entry *t = &v->trials[i];
        if (strcmp(t->pipeline, name) != 0) continue;
        if (t->result == EXO_VK_TRIAL_PASSED) return false;
        last = t->reason;
    }
    if (reason != NULL) *reason = last;
    return true;
}

bool exo_vk_is_useful(const exo_vk_verdict *v, exo_error *err) {
    const char *reason = "";
    bool multiplies = false;
    if (exo_vk_absent(v, EXO_VK_KERNEL_elementwise, &reason)) {
        exo_error_set(err, EXO_EUNSUPPORTED, "no variant of kernel elementwise works there: %s",
                      reason);
        return false;
    }
    for (int k = 0; k < EXO_VK_N_KERNELS && !multiplies; k++) {
        if (is_product((exo_vk_kernel)k)) multiplies = !exo_vk_absent(v, (exo_vk_kernel)k, &reason);
    }
    if (!multiplies) {
        exo_error_set(err, EXO_EUNSUPPORTED, "no kernel for products works there: %s", reason);
    }
    return multiplies;
}

const char *exo_vk_host_computes(exo_vk_kernel k) {
    static const char *const texts[EXO_VK_N_KERNELS] = {
        [EXO_VK_KERNEL_matmul_f32] = "products of f32",
        [EXO_VK_KERNEL_matmul_f16] = "products of f16",
        [EXO_VK_KERNEL_matmul_bf16] = "products of bf16",
        [EXO_VK_KERNEL_matmul_q4_0] = "products of q4_0",
        [EXO_VK_KERNEL_matmul_q8_0] = "products of q8_0",
        [EXO_VK_KERNEL_matmul_q4_k] = "products of q4_k",
        [EXO_VK_KERNEL_matmul_q6_k] = "products of q6_k",
        [EXO_VK_KERNEL_matmul_q4_1] = "products of q4_1",
        [EXO_VK_KERNEL_matmul_q5_0] = "products of q5_0",
        [EXO_VK_KERNEL_matmul_q5_1] = "products of q5_1",
        [EXO_VK_KERNEL_matmul_q2_k] = "products of q2_k",
        [EXO_VK_KERNEL_matmul_q3_k] = "products of q3_k",
        [EXO_VK_KERNEL_matmul_q5_k] = "products of q5_k",
        [EXO_VK_KERNEL_matmul_iq4_nl] = "products of iq4_nl",
        [EXO_VK_KERNEL_matmul_iq4_xs] = "products of iq4_xs",
        [EXO_VK_KERNEL_matmul_mxfp4] = "products of mxfp4",
        [EXO_VK_KERNEL_embed_f32] = "embeddings of f32",
        [EXO_VK_KERNEL_embed_f16] = "embeddings of f16",
        [EXO_VK_KERNEL_embed_bf16] = "embeddings of bf16",
        [EXO_VK_KERNEL_embed_q4_0] = "embeddings of q4_0",
        [EXO_VK_KERNEL_embed_q8_0] = "embeddings of q8_0",
        [EXO_VK_KERNEL_embed_q4_k] = "embeddings of q4_k",
        [EXO_VK_KERNEL_embed_q6_k] = "embeddings of q6_k",
        [EXO_VK_KERNEL_embed_q4_1] = "embeddings of q4_1",
        [EXO_VK_KERNEL_embed_q5_0] = "embeddings of q5_0",
        [EXO_VK_KERNEL_embed_q5_1] = "embeddings of q5_1",
        [EXO_VK_KERNEL_embed_q2_k] = "embeddings of q2_k",
        [EXO_VK_KERNEL_embed_q3_k] = "embeddings of q3_k",
        [EXO_VK_KERNEL_embed_q5_k] = "embeddings of q5_k",
        [EXO_VK_KERNEL_embed_iq4_nl] = "embeddings of iq4_nl",
        [EXO_VK_KERNEL_embed_iq4_xs] = "embeddings of iq4_xs",
        [EXO_VK_KERNEL_embed_mxfp4] = "embeddings of mxfp4",
        [EXO_VK_KERNEL_rope_kv] = "attention, with its keys and values",
        [EXO_VK_KERNEL_attention] = "attention, with its keys and values",
    };
    return (unsigned)k < EXO_VK_N_KERNELS ? texts[k] : NULL;
}

exo_status exo_vk_host_device(exo_device *d, exo_device **out, exo_error *err) {
    exo_status st = EXO_OK;
    if (d->host == NULL) st = exo_backend_cpu.open(0, &d->host_desc, &d->host, err);
    *out = d->host;
    return st;
}

bool exo_vk_host_type(const exo_device *d, exo_dtype type) {
    uint32_t t = exo_vk_weight_type(type);
    return t == EXO_VK_NO_WEIGHT_TYPE || d->absent[EXO_VK_KERNEL_matmul_f32 + t];
}
