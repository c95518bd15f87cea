/* op_kinds.h - the small choices of operations that models name too: norms, activations, gating.
 *
 * Apart from backend.h so that reading a model file needs no word about devices.  What each
 * computes: compute/cpu/reference.h.  Thread: ANY. */
#ifndef EXO_COMPUTE_OP_KINDS_H
#define EXO_COMPUTE_OP_KINDS_H

#include <stdbool.h>

typedef enum { EXO_NORM_RMS, EXO_NORM_LAYER, EXO_NORM_NONE } exo_norm_kind;

typedef enum {
    EXO_EPILOGUE_STORE,      /* out[i] = y_i for each part i */
    EXO_EPILOGUE_ADD,        /* out[0] += y_0: the residual */
    EXO_EPILOGUE_SILU_MUL,   /* out[0] = silu(y_0) * y_1: gate and up */
    EXO_EPILOGUE_GELU_MUL,   /* out[0] = gelu(y_0) * y_1, the tanh form of gelu */
    EXO_EPILOGUE_SWIGLU_OAI, /* out[0] = clamped swish(y_0) * (clamped y_1 + 1): gpt-oss */
    EXO_EPILOGUE_GELU,       /* out[0] = gelu(y_0): no gate */
    EXO_EPILOGUE_RELU2,      /* out[0] = max(y_0, 0)^2: no gate */
} exo_epilogue;

/* Gate and up become one output. */
static inline bool exo_epilogue_gated(exo_epilogue e) {
    return e == EXO_EPILOGUE_SILU_MUL || e == EXO_EPILOGUE_GELU_MUL || e == EXO_EPILOGUE_SWIGLU_OAI;
}

typedef enum {
    EXO_GATING_SOFTMAX,        /* weights are probabilities over all experts */
    EXO_GATING_SIGMOID,        /* each expert's own probability */
    EXO_GATING_SOFTMAX_CHOSEN, /* probabilities over the chosen ones */
} exo_gating;

#endif
