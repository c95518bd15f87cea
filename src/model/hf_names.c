/* hf_names.c - architectures of transformers and their tensor names, as tables.
 *
 * A new architecture is a row here, with a table of the names in which it differs from Llama's. */
#include "model/hf_impl.h"

#include <stdio.h>
#include <string.h>

#define LAYER "model.layers.%u."
#define END                                                                                        \
    { NULL, NULL, EXO_HF_AS_IS }

static const exo_hf_name common_names[] = {
    {"model.embed_tokens.weight", "token_embd.weight", EXO_HF_AS_IS},
    {"model.norm.weight", "output_norm.weight", EXO_HF_AS_IS},
    {"model.norm.bias", "output_norm.bias", EXO_HF_AS_IS},
    {"lm_head.weight", "output.weight", EXO_HF_AS_IS},
    {LAYER "input_layernorm.weight", "blk.%u.attn_norm.weight", EXO_HF_AS_IS},
    {LAYER "self_attn.q_proj.weight", "blk.%u.attn_q.weight", EXO_HF_AS_IS},
    {LAYER "self_attn.k_proj.weight", "blk.%u.attn_k.weight", EXO_HF_AS_IS},
    {LAYER "self_attn.v_proj.weight", "blk.%u.attn_v.weight", EXO_HF_AS_IS},
    {LAYER "self_attn.o_proj.weight", "blk.%u.attn_output.weight", EXO_HF_AS_IS},
    {LAYER "self_attn.q_proj.bias", "blk.%u.attn_q.bias", EXO_HF_AS_IS},
    {LAYER "self_attn.k_proj.bias", "blk.%u.attn_k.bias", EXO_HF_AS_IS},
    {LAYER "self_attn.v_proj.bias", "blk.%u.attn_v.bias", EXO_HF_AS_IS},
    {LAYER "self_attn.o_proj.bias", "blk.%u.attn_output.bias", EXO_HF_AS_IS},
    {LAYER "self_attn.q_norm.weight", "blk.%u.attn_q_norm.weight", EXO_HF_AS_IS},
    {LAYER "self_attn.k_norm.weight", "blk.%u.attn_k_norm.weight", EXO_HF_AS_IS},
    {LAYER "post_attention_layernorm.weight", "blk.%u.ffn_norm.weight", EXO_HF_AS_IS},
    {LAYER "mlp.gate_proj.weight", "blk.%u.ffn_gate.weight", EXO_HF_AS_IS},
    {LAYER "mlp.up_proj.weight", "blk.%u.ffn_up.weight", EXO_HF_AS_IS},
    {LAYER "mlp.down_proj.weight", "blk.%u.ffn_down.weight", EXO_HF_AS_IS},
    {LAYER "mlp.gate_proj.bias", "blk.%u.ffn_gate.bias", EXO_HF_AS_IS},
    {LAYER "mlp.up_proj.bias", "blk.%u.ffn_up.bias", EXO_HF_AS_IS},
    {LAYER "mlp.down_proj.bias", "blk.%u.ffn_down.bias", EXO_HF_AS_IS},
    {LAYER "input_layernorm.bias", "blk.%u.attn_norm.bias", EXO_HF_AS_IS},
    {LAYER "post_attention_layernorm.bias", "blk.%u.ffn_norm.bias", EXO_HF_AS_IS},
    {LAYER "self_attn.rotary_emb.inv_freq", NULL, EXO_HF_AS_IS}, /* follows from rope_theta */
    {LAYER "mlp.gate.weight", "blk.%u.ffn_gate_inp.weight", EXO_HF_WIDE},
    {LAYER "mlp.experts.%u.gate_proj.weight", "blk.%u.ffn_gate_exps.weight", EXO_HF_EXPERT},
    {LAYER "mlp.experts.%u.up_proj.weight", "blk.%u.ffn_up_exps.weight", EXO_HF_EXPERT},
    {LAYER "mlp.experts.%u.down_proj.weight", "blk.%u.ffn_down_exps.weight", EXO_HF_EXPERT},
    END,
};

/* ---- what differs ---- */

static const exo_hf_name mixtral[] = {
    {LAYER "block_sparse_moe.gate.weight", "blk.%u.ffn_gate_inp.weight", EXO_HF_WIDE},
    {LAYER "block_sparse_moe.experts.%u.w1.weight", "blk.%u.ffn_gate_exps.weight", EXO_HF_EXPERT},
    {LAYER "block_sparse_moe.experts.%u.w3.weight", "blk.%u.ffn_up_exps.weight", EXO_HF_EXPERT},
    {LAYER "block_sparse_moe.experts.%u.w2.weight", "blk.%u.ffn_down_exps.weight", EXO_HF_EXPERT},
    END,
};

static const exo_hf_name qwen2moe[] = {
    {LAYER "mlp.shared_expert.gate_proj.weight", "blk.%u.ffn_gate_shexp.weight", EXO_HF_AS_IS},
    {LAYER "mlp.shared_expert.up_proj.weight", "blk.%u.ffn_up_shexp.weight", EXO_HF_AS_IS},
    {LAYER "mlp.shared_expert.down_proj.weight", "blk.%u.ffn_down_shexp.weight", EXO_HF_AS_IS},
    {LAYER "mlp.shared_expert_gate.weight", "blk.%u.ffn_gate_inp_shexp.weight", EXO_HF_FLAT},
    END,
};

static const exo_hf_name gemma2[] = {
    {LAYER "post_attention_layernorm.weight", "blk.%u.post_attention_norm.weight", EXO_HF_AS_IS},
    {LAYER "pre_feedforward_layernorm.weight", "blk.%u.ffn_norm.weight", EXO_HF_AS_IS},
    {LAYER "post_feedforward_layernorm.weight", "blk.%u.post_ffw_norm.weight", EXO_HF_AS_IS},
    END,
};

static const exo_hf_name phi3[] = {
    {LAYER "self_attn.qkv_proj.weight", "blk.%u.attn_qkv.weight", EXO_HF_AS_IS},
    {LAYER "mlp.gate_up_proj.weight", "blk.%u.ffn_up.weight", EXO_HF_AS_IS},
    END,
};

static const exo_hf_name granitemoe[] = {
    {LAYER "block_sparse_moe.router.layer.weight", "blk.%u.ffn_gate_inp.weight", EXO_HF_WIDE},
    {LAYER "block_sparse_moe.input_linear.weight", "blk.%u.ffn_gate_exps.weight", EXO_HF_GATE_UP},
    {LAYER "block_sparse_moe.output_linear.weight", "blk.%u.ffn_down_exps.weight", EXO_HF_STACK},
    END,
};

static const exo_hf_name glm4[] = {
    {LAYER "post_self_attn_layernorm.weight", "blk.%u.post_attention_norm.weight", EXO_HF_AS_IS},
    {LAYER "post_mlp_layernorm.weight", "blk.%u.post_ffw_norm.weight", EXO_HF_AS_IS},
    {LAYER "mlp.gate_up_proj.weight", "blk.%u.ffn_up.weight", EXO_HF_AS_IS},
    END,
};

static const exo_hf_name starcoder2[] = {
    {LAYER "mlp.c_fc.weight", "blk.%u.ffn_up.weight", EXO_HF_AS_IS},
    {LAYER "mlp.c_fc.bias", "blk.%u.ffn_up.bias", EXO_HF_AS_IS},
    {LAYER "mlp.c_proj.weight", "blk.%u.ffn_down.weight", EXO_HF_AS_IS},
    {LAYER "mlp.c_proj.bias", "blk.%u.ffn_down.bias", EXO_HF_AS_IS},
    END,
};

static const exo_hf_name seed_oss[] = {
    {LAYER "post_attention_layernorm.weight", "blk.%u.post_attention_norm.weight", EXO_HF_AS_IS},
    END,
};

static const exo_hf_name deepseek[] = {
    {LAYER "self_attn.q_a_proj.weight", "blk.%u.attn_q_a.weight", EXO_HF_AS_IS},
    {LAYER "self_attn.q_a_layernorm.weight", "blk.%u.attn_q_a_norm.weight", EXO_HF_AS_IS},
    {LAYER "self_attn.q_b_proj.weight", "blk.%u.attn_q_b.weight", EXO_HF_AS_IS},
    {LAYER "self_attn.kv_a_proj_with_mqa.weight", "blk.%u.attn_kv_a_mqa.weight", EXO_HF_AS_IS},
    {LAYER "self_attn.kv_a_layernorm.weight", "blk.%u.attn_kv_a_norm.weight", EXO_HF_AS_IS},
    {LAYER "self_attn.kv_b_proj.weight", "blk.%u.attn_kv_b.weight", EXO_HF_AS_IS},
    {LAYER "mlp.gate.e_score_correction_bias", "blk.%u.exp_probs_b.bias", EXO_HF_AS_IS},
    {LAYER "mlp.shared_experts.gate_proj.weight", "blk.%u.ffn_gate_shexp.weight", EXO_HF_AS_IS},
    {LAYER "mlp.shared_experts.up_proj.weight", "blk.%u.ffn_up_shexp.weight", EXO_HF_AS_IS},
    {LAYER "mlp.shared_experts.down_proj.weight", "blk.%u.ffn_down_shexp.weight", EXO_HF_AS_IS},
    END,
};

#define BERT "encoder.layer.%u."
static const exo_hf_name bert[] = {
    {"embeddings.word_embeddings.weight", "token_embd.weight", EXO_HF_AS_IS},
    {"embeddings.position_embeddings.weight", "position_embd.weight", EXO_HF_WIDE},
    {"embeddings.token_type_embeddings.weight", "token_types.weight", EXO_HF_WIDE},
    {"embeddings.LayerNorm.weight", "token_embd_norm.weight", EXO_HF_AS_IS},
    {"embeddings.LayerNorm.bias", "token_embd_norm.bias", EXO_HF_AS_IS},
    {"embeddings.position_ids", NULL, EXO_HF_AS_IS},
    {BERT "attention.self.query.weight", "blk.%u.attn_q.weight", EXO_HF_AS_IS},
    {BERT "attention.self.query.bias", "blk.%u.attn_q.bias", EXO_HF_AS_IS},
    {BERT "attention.self.key.weight", "blk.%u.attn_k.weight", EXO_HF_AS_IS},
    {BERT "attention.self.key.bias", "blk.%u.attn_k.bias", EXO_HF_AS_IS},
    {BERT "attention.self.value.weight", "blk.%u.attn_v.weight", EXO_HF_AS_IS},
    {BERT "attention.self.value.bias", "blk.%u.attn_v.bias", EXO_HF_AS_IS},
    {BERT "attention.output.dense.weight", "blk.%u.attn_output.weight", EXO_HF_AS_IS},
    {BERT "attention.output.dense.bias", "blk.%u.attn_output.bias", EXO_HF_AS_IS},
    {BERT "attention.output.LayerNorm.weight", "blk.%u.attn_output_norm.weight", EXO_HF_AS_IS},
    {BERT "attention.output.LayerNorm.bias", "blk.%u.attn_output_norm.bias", EXO_HF_AS_IS},
    {BERT "intermediate.dense.weight", "blk.%u.ffn_up.weight", EXO_HF_AS_IS},
    {BERT "intermediate.dense.bias", "blk.%u.ffn_up.bias", EXO_HF_AS_IS},
    {BERT "output.dense.weight", "blk.%u.ffn_down.weight", EXO_HF_AS_IS},
    {BERT "output.dense.bias", "blk.%u.ffn_down.bias", EXO_HF_AS_IS},
    {BERT "output.LayerNorm.weight", "blk.%u.layer_output_norm.weight", EXO_HF_AS_IS},
    {BERT "output.LayerNorm.bias", "blk.%u.layer_output_norm.bias", EXO_HF_AS_IS},
    {"pooler.dense.weight", NULL, EXO_HF_AS_IS}, /* made for another use than embeddings */
    {"pooler.dense.bias", NULL, EXO_HF_AS_IS},
    END,
};

#define NOMIC "encoder.layers.%u."
static const exo_hf_name nomic_bert[] = {
    {"embeddings.word_embeddings.weight", "token_embd.weight", EXO_HF_AS_IS},
    {"embeddings.token_type_embeddings.weight", "token_types.weight", EXO_HF_WIDE},
    {"emb_ln.weight", "token_embd_norm.weight", EXO_HF_AS_IS},
    {"emb_ln.bias", "token_embd_norm.bias", EXO_HF_AS_IS},
    {NOMIC "attn.Wqkv.weight", "blk.%u.attn_qkv.weight", EXO_HF_AS_IS},
    {NOMIC "attn.Wqkv.bias", "blk.%u.attn_qkv.bias", EXO_HF_AS_IS},
    {NOMIC "attn.out_proj.weight", "blk.%u.attn_output.weight", EXO_HF_AS_IS},
    {NOMIC "attn.out_proj.bias", "blk.%u.attn_output.bias", EXO_HF_AS_IS},
    {NOMIC "norm1.weight", "blk.%u.attn_output_norm.weight", EXO_HF_AS_IS},
    {NOMIC "norm1.bias", "blk.%u.attn_output_norm.bias", EXO_HF_AS_IS},
    {NOMIC "mlp.fc11.weight", "blk.%u.ffn_up.weight", EXO_HF_AS_IS},
    {NOMIC "mlp.fc12.weight", "blk.%u.ffn_gate.weight", EXO_HF_AS_IS},
    {NOMIC "mlp.fc2.weight", "blk.%u.ffn_down.weight", EXO_HF_AS_IS},
    {NOMIC "norm2.weight", "blk.%u.layer_output_norm.weight", EXO_HF_AS_IS},
    {NOMIC "norm2.bias", "blk.%u.layer_output_norm.bias", EXO_HF_AS_IS},
    END,
};

#define EXAONE "transformer.h.%u."
static const exo_hf_name exaone[] = {
    {"transformer.wte.weight", "token_embd.weight", EXO_HF_AS_IS},
    {"transformer.ln_f.weight", "output_norm.weight", EXO_HF_AS_IS},
    {"transformer.rotary.inv_freq", NULL, EXO_HF_AS_IS},
    {EXAONE "attn.attention.rotary.inv_freq", NULL, EXO_HF_AS_IS},
    {EXAONE "ln_1.weight", "blk.%u.attn_norm.weight", EXO_HF_AS_IS},
    {EXAONE "attn.attention.q_proj.weight", "blk.%u.attn_q.weight", EXO_HF_AS_IS},
    {EXAONE "attn.attention.k_proj.weight", "blk.%u.attn_k.weight", EXO_HF_AS_IS},
    {EXAONE "attn.attention.v_proj.weight", "blk.%u.attn_v.weight", EXO_HF_AS_IS},
    {EXAONE "attn.attention.out_proj.weight", "blk.%u.attn_output.weight", EXO_HF_AS_IS},
    {EXAONE "ln_2.weight", "blk.%u.ffn_norm.weight", EXO_HF_AS_IS},
    {EXAONE "mlp.c_fc_0.weight", "blk.%u.ffn_gate.weight", EXO_HF_AS_IS},
    {EXAONE "mlp.c_fc_1.weight", "blk.%u.ffn_up.weight", EXO_HF_AS_IS},
    {EXAONE "mlp.c_proj.weight", "blk.%u.ffn_down.weight", EXO_HF_AS_IS},
    END,
};

static const exo_hf_arch archs[] = {
    {.model_type = "nomic_bert", .arch = "nomic-bert", .names = nomic_bert, .tied = true},
    {.model_type = "exaone", .arch = "exaone", .names = exaone},
    {.model_type = "bert", .arch = "bert", .names = bert, .prefix = "bert.", .tied = true},
    {.model_type = "llama", .arch = "llama", .interleaved = true},
    {.model_type = "mistral", .arch = "llama", .interleaved = true, .window = true},
    {.model_type = "mixtral",
     .arch = "llama",
     .names = mixtral,
     .interleaved = true,
     .window = true,
     .n_experts = 8,
     .n_experts_used = 2},
    {.model_type = "qwen2", .arch = "qwen2"},
    {.model_type = "qwen2_moe",
     .arch = "qwen2moe",
     .names = qwen2moe,
     .n_experts = 60,
     .n_experts_used = 4},
    {.model_type = "qwen3", .arch = "qwen3", .head_dim = 128},
    {.model_type = "qwen3_moe", .arch = "qwen3moe", .n_experts = 128, .n_experts_used = 8},
    {.model_type = "gemma", .arch = "gemma", .tied = true, .norms_less_1 = true, .head_dim = 256},
    {.model_type = "gemma2",
     .arch = "gemma2",
     .names = gemma2,
     .tied = true,
     .norms_less_1 = true,
     .window = true,
     .head_dim = 256},
    {.model_type = "gemma3_text",
     .arch = "gemma3",
     .names = gemma2,
     .tied = true,
     .norms_less_1 = true,
     .window = true,
     .head_dim = 256},
    {.model_type = "phi3", .arch = "phi3", .names = phi3, .window = true},
    {.model_type = "granite", .arch = "granite", .interleaved = true},
    {.model_type = "granitemoe",
     .arch = "granitemoe",
     .names = granitemoe,
     .interleaved = true,
     .n_experts = 8,
     .n_experts_used = 2},
    {.model_type = "glm4", .arch = "glm4", .names = glm4, .head_dim = 128, .rotated = 0.5},
    {.model_type = "deepseek_v2", .arch = "deepseek2", .names = deepseek, .n_experts_used = 6},
    {.model_type = "deepseek_v3",
     .arch = "deepseek2",
     .names = deepseek,
     .sigmoid = true,
     .extra_layers = true,
     .n_experts = 256,
     .n_experts_used = 8},
    {.model_type = "olmo2", .arch = "olmo2", .names = gemma2},
    {.model_type = "starcoder2",
     .arch = "starcoder2",
     .names = starcoder2,
     .tied = true,
     .window = true},
    {.model_type = "cohere", .arch = "command-r", .tied = true},
    {.model_type = "smollm3", .arch = "smollm3", .interleaved = true, .tied = true},
    {.model_type = "ernie4_5", .arch = "ernie4_5", .tied = true},
    {.model_type = "seed_oss", .arch = "seed_oss", .names = seed_oss, .head_dim = 128},
};
enum { N_ARCHS = sizeof archs / sizeof *archs };

static exo_status unknown(const char *type, exo_error *err) {
    char list[160] = "";
    for (size_t i = 0, n = 0; i < N_ARCHS && n < sizeof list; i++) {
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i > 0 ? ", " : "",
                              archs[i].model_type);
    }
    return exo_error_set(err, EXO_EUNSUPPORTED,
                         "model_type \"%.40s\" is not supported as safetensors (%.120s... are); "
                         "a GGUF file of it may be",
                         type, list);
}

exo_status exo_hf_find_arch(const json_t *config, const exo_hf_arch **out, exo_error *err) {
    const char *type = json_string_value(json_object_get(config, "model_type"));
    *out = NULL;
    if (type == NULL) return exo_error_set(err, EXO_EFORMAT, "config.json names no model_type");
    for (int i = 0; i < N_ARCHS; i++) {
        if (strcmp(archs[i].model_type, type) != 0) continue;
        *out = &archs[i];
        return EXO_OK;
    }
    return unknown(type, err);
}

/* Whether name fits the pattern; index takes what stands for each %u, without leading zeros. */
static bool match(const char *pattern, const char *name, uint32_t index[2]) {
    int n = 0;
    index[0] = index[1] = 0;
    while (*pattern != '\0') {
        if (strncmp(pattern, "%u", 2) != 0) {
            if (*pattern++ != *name++) return false;
            continue;
        }
        size_t k = strspn(name, "0123456789");
        if (k == 0 || k > 6 || (k > 1 && name[0] == '0')) return false;
        for (size_t i = 0; i < k; i++) index[n] = index[n] * 10 + (uint32_t)(name[i] - '0');
        n++;
        pattern += 2;
        name += k;
    }
    return *name == '\0';
}

static const exo_hf_name *find(const exo_hf_name *table, const char *theirs, uint32_t index[2]) {
    for (; table != NULL && table->theirs != NULL; table++) {
        if (match(table->theirs, theirs, index)) return table;
    }
    return NULL;
}

bool exo_hf_find_name(const exo_hf_arch *a, const char *theirs, exo_hf_place *out) {
    uint32_t index[2];
    size_t n = a->prefix != NULL ? strlen(a->prefix) : 0;
    if (n > 0 && strncmp(theirs, a->prefix, n) == 0) theirs += n;
    const exo_hf_name *row = find(a->names, theirs, index);
    if (row == NULL) row = find(common_names, theirs, index);
    *out = (exo_hf_place){.how = EXO_HF_NOT_NEEDED};
    if (row == NULL) return false;
    if (row->ours == NULL) return true;
    out->how = row->how;
    out->layer = index[0];
    out->expert = index[1];
    exo_hf_fill_layer(row->ours, index[0], out->name);
    return true;
}

void exo_hf_fill_layer(const char *pattern, uint32_t layer, char out[64]) {
    const char *mark = strstr(pattern, "%u");
    if (mark == NULL) {
        snprintf(out, 64, "%s", pattern);
    } else {
        snprintf(out, 64, "%.*s%u%s", (int)(mark - pattern), pattern, layer, mark + 2);
    }
}
