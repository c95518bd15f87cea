/* kernels.c - which kernels this machine runs, and the facts all of them share. */
#include "compute/cpu/kernels.h"

#include "compute/blocks.h"
#include "compute/cpu/reference.h"

#include <stdlib.h>
#include <string.h>

static const exo_cpu_kernels *const tables[] = {
#if defined(__x86_64__)
    &exo_kernels_avx512,
    &exo_kernels_avxvnni,
    &exo_kernels_avx2,
#elif defined(__aarch64__)
    &exo_kernels_neon_i8mm,
    &exo_kernels_neon_dotprod,
    &exo_kernels_neon,
#endif
    &exo_kernels_reference,
};

const exo_cpu_kernels *const *exo_kernels_all(size_t *n) {
    *n = sizeof tables / sizeof tables[0];
    return tables;
}

/* "neon" names every table of NEON: "neon-i8mm", "neon-dotprod" and "neon-plain". */
static bool is_named(const exo_cpu_kernels *k, const char *isa) {
    size_t n = strlen(isa);
    return strncmp(k->isa, isa, n) == 0 && (k->isa[n] == '\0' || k->isa[n] == '-');
}

exo_status exo_kernels_choose(const char *isa, const exo_cpu_kernels **out, exo_error *err) {
    *out = NULL;
    if (isa == NULL) isa = getenv("EXO_CPU_ISA");
    if (isa != NULL && *isa == '\0') isa = NULL; /* as if it were not set */
    bool known = false;
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        if (isa != NULL && !is_named(tables[i], isa)) continue;
        known = true;
        if (!tables[i]->runs_here()) continue;
        *out = tables[i];
        return EXO_OK;
    }
    if (known) {
        return exo_error_set(err, EXO_EUNSUPPORTED, "this machine does not run %s kernels", isa);
    }
    return exo_error_set(err, EXO_EINVAL, "no kernels named %s in this build", isa);
}

exo_act_form exo_act_form_of(exo_dtype weight_type) {
    if (!exo_block_known(weight_type)) return EXO_ACT_F32;
    return exo_dtype_get(weight_type)->block_elems == 32 ? EXO_ACT_Q32 : EXO_ACT_Q256;
}

static size_t lanes_of(uint32_t v_dim) { return ((size_t)v_dim + 15) / 16 * 16; }

size_t exo_attention_scratch(uint32_t v_dim) {
    size_t weights = EXO_ATTENTION_QUERIES * EXO_ATTN_SPLIT_TOKENS;
    size_t rows = EXO_ATTENTION_QUERIES + 1 + EXO_ATTENTION_BATCH; /* parts, scales, totals */
    return weights + rows * lanes_of(v_dim);
}

size_t exo_attention_part(uint32_t v_dim) { return lanes_of(v_dim) + 16; }
