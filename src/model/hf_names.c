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

static const exo_hf_name internlm2[] = {
    {"model.tok_embeddings.weight", "token_embd.weight", EXO_HF_AS_IS},
    {"output.weight", "output.weight", EXO_HF_AS_IS},
    {LAYER "attention_norm.weight", "blk.%u.attn_norm.weight", EXO_HF_AS_IS},
    {LAYER "attention.wqkv.weight", "blk.%u.attn_q.weight", EXO_HF_GROUPS},
    {LAYER "attention.wo.weight", "blk.%u.attn_output.weight", EXO_HF_AS_IS},
    {LAYER "ffn_norm.weight", "blk.%u.ffn_norm.weight", EXO_HF_AS_IS},
    {LAYER "feed_forward.w1.weight", "blk.%u.ffn_gate.weight", EXO_HF_AS_IS},
    {LAYER "feed_forward.w3.weight", "blk.%u.ffn_up.weight", EXO_HF_AS_IS},
    {LAYER "feed_forward.w2.weight", "blk.%u.ffn_down.weight", EXO_HF_AS_IS},
    END,
};

#define EXPERTS LAYER "mlp.experts."
static const exo_hf_name gpt_oss[] = {
    {LAYER "post_attention_layernorm.weight", "blk.%u.post_attention_norm.weight", EXO_HF_AS_IS},
    {LAYER "self_attn.sinks", "blk.%u.attn_sinks.weight", EXO_HF_AS_IS},
    {LAYER "mlp.router.weight", "blk.%u.ffn_gate_inp.weight", EXO_HF_WIDE},
    {LAYER "mlp.router.bias", "blk.%u.ffn_gate_inp.bias", EXO_HF_AS_IS},
    {EXPERTS "gate_up_proj_blocks", "blk.%u.ffn_gate_exps.weight", EXO_HF_BLOCKS_PAIR},
    {EXPERTS "gate_up_proj_scales", "blk.%u.ffn_gate_exps.weight", EXO_HF_SCALES_PAIR},
    {EXPERTS "gate_up_proj_bias", "blk.%u.ffn_gate_exps.bias", EXO_HF_BIAS_PAIR},
    {EXPERTS "gate_up_proj", "blk.%u.ffn_gate_exps.weight", EXO_HF_TURNED_PAIR},
    {EXPERTS "down_proj_blocks", "blk.%u.ffn_down_exps.weight", EXO_HF_BLOCKS},
    {EXPERTS "down_proj_scales", "blk.%u.ffn_down_exps.weight", EXO_HF_SCALES},
    {EXPERTS "down_proj_bias", "blk.%u.ffn_down_exps.bias", EXO_HF_WIDE},
    {EXPERTS "down_proj", "blk.%u.ffn_down_exps.weight", EXO_HF_TURNED},
    END,
};

static const exo_hf_name granitemoe[] = {
    {LAYER "block_sparse_moe.router.layer.weight", "blk.%u.ffn_gate_inp.weight", EXO_HF_WIDE},
    {LAYER "block_sparse_moe.input_linear.weight", "blk.%u.ffn_gate_exps.weight", EXO_HF_GATE_UP},
    {LAYER "block_sparse_moe.output_linear.weight", "blk.%u.ffn_down_exps.weight", EXO_HF_STACK},
    {LAYER "shared_mlp.input_linear.weight", "blk.%u.ffn_gate_shexp.weight", EXO_HF_HALVES},
    {LAYER "shared_mlp.output_linear.weight", "blk.%u.ffn_down_shexp.weight", EXO_HF_AS_IS},
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

/* ---- classes ---- */

/* What silence means is what the classes of transformers 4 and 5 say; where these differ, 5. */
#define MOE_LLAMA "\"num_local_experts\":8,\"num_experts_per_tok\":2,"
#define UNTIED    "\"tie_word_embeddings\":false"
#define TIED      "\"tie_word_embeddings\":true"
#define EPS_5     "\"rms_norm_eps\":1e-5,"
#define EPS_6     "\"rms_norm_eps\":1e-6,"
#define THETA_1E4 "\"rope_theta\":1e4,"
#define SLIDES    "\"use_sliding_window\":false,\"sliding_window\":4096,\"max_window_layers\":28,"
#define SCALES                                                                                     \
    "\"attention_multiplier\":1,\"embedding_multiplier\":1,\"residual_multiplier\":1,"             \
    "\"logits_scaling\":1,"
#define GEMMA2                                                                                     \
    "{\"num_attention_heads\":8,\"num_key_value_heads\":4,\"head_dim\":256,"                       \
    "\"query_pre_attn_scalar\":256,\"sliding_window\":4096,\"attention_bias\":false," EPS_6 TIED
#define LATENT                                                                                     \
    "\"kv_lora_rank\":512,\"q_lora_rank\":1536,\"qk_nope_head_dim\":128,"                          \
    "\"qk_rope_head_dim\":64,\"v_head_dim\":128,\"attention_bias\":false," EPS_6 THETA_1E4 UNTIED

static const exo_hf_arch archs[] = {
    {.model_type = "llama",
     .arch = "llama",
     .members = "{\"attention_bias\":false,\"mlp_bias\":false," EPS_6 THETA_1E4 UNTIED "}",
     .qkv_bias = "attention_bias",
     .o_bias = "attention_bias",
     .ffn_bias = "mlp_bias",
     .interleaved = true},
    {.model_type = "mistral",
     .arch = "llama",
     .members =
         "{\"hidden_size\":4096,\"intermediate_size\":14336,\"num_hidden_layers\":32,"
         "\"num_attention_heads\":32,\"num_key_value_heads\":8,"
         "\"max_position_embeddings\":131072,\"sliding_window\":4096," EPS_6 THETA_1E4 UNTIED "}",
     .qkv_bias = EXO_HF_NEVER,
     .o_bias = EXO_HF_NEVER,
     .ffn_bias = EXO_HF_NEVER,
     .interleaved = true},
    {.model_type = "mixtral",
     .arch = "llama",
     .names = mixtral,
     .members = "{" MOE_LLAMA "\"num_key_value_heads\":8,\"sliding_window\":null,"
                "\"rope_theta\":1e6," EPS_5 UNTIED "}",
     .qkv_bias = EXO_HF_NEVER,
     .o_bias = EXO_HF_NEVER,
     .interleaved = true},
    {.model_type = "qwen2",
     .arch = "qwen2",
     .members = "{\"num_key_value_heads\":32," SLIDES EPS_6 THETA_1E4 UNTIED "}",
     .qkv_bias = EXO_HF_ALWAYS,
     .o_bias = EXO_HF_NEVER,
     .ffn_bias = EXO_HF_NEVER},
    {.model_type = "qwen2_moe",
     .arch = "qwen2moe",
     .names = qwen2moe,
     .members = "{\"num_key_value_heads\":16,\"num_experts\":60,\"num_experts_per_tok\":4,"
                "\"moe_intermediate_size\":1408,\"shared_expert_intermediate_size\":5632,"
                "\"norm_topk_prob\":false,\"decoder_sparse_step\":1,\"qkv_bias\":true,"
                "\"use_sliding_window\":false,\"sliding_window\":4096," EPS_6 THETA_1E4 UNTIED "}",
     .qkv_bias = "qkv_bias",
     .o_bias = EXO_HF_NEVER},
    {.model_type = "qwen3",
     .arch = "qwen3",
     .members =
         "{\"num_key_value_heads\":32,\"head_dim\":128,\"attention_bias\":false," SLIDES EPS_6
             THETA_1E4 UNTIED "}",
     .qkv_bias = "attention_bias",
     .o_bias = "attention_bias",
     .ffn_bias = EXO_HF_NEVER},
    {.model_type = "qwen3_moe",
     .arch = "qwen3moe",
     .members = "{\"num_key_value_heads\":4,\"num_experts\":128,\"num_experts_per_tok\":8,"
                "\"moe_intermediate_size\":768,\"norm_topk_prob\":false,\"attention_bias\":false,"
                "\"decoder_sparse_step\":1,\"use_sliding_window\":false,"
                "\"sliding_window\":4096," EPS_6 THETA_1E4 UNTIED "}",
     .qkv_bias = "attention_bias",
     .o_bias = "attention_bias"},
    {.model_type = "gemma",
     .arch = "gemma",
     .members = "{\"num_key_value_heads\":16,\"head_dim\":256,"
                "\"attention_bias\":false," EPS_6 THETA_1E4 TIED "}",
     .qkv_bias = "attention_bias",
     .o_bias = "attention_bias",
     .ffn_bias = EXO_HF_NEVER,
     .norms_less_1 = true},
    {.model_type = "gemma2",
     .arch = "gemma2",
     .names = gemma2,
     .members = GEMMA2 ",\"final_logit_softcapping\":30,\"attn_logit_softcapping\":50,"
                       "\"rope_theta\":1e4}",
     .qkv_bias = "attention_bias",
     .o_bias = "attention_bias",
     .ffn_bias = EXO_HF_NEVER,
     .norms_less_1 = true},
    {.model_type = "gemma3_text",
     .arch = "gemma3",
     .names = gemma2,
     .members = GEMMA2 ",\"hidden_size\":2304,\"intermediate_size\":9216,"
                       "\"num_hidden_layers\":26,\"max_position_embeddings\":131072,"
                       "\"final_logit_softcapping\":null,\"attn_logit_softcapping\":null,"
                       "\"sliding_window_pattern\":6,\"rope_theta\":1e6,"
                       "\"rope_local_base_freq\":1e4}",
     .qkv_bias = "attention_bias",
     .o_bias = "attention_bias",
     .ffn_bias = EXO_HF_NEVER,
     .norms_less_1 = true},
    {.model_type = "phi3",
     .arch = "phi3",
     .names = phi3,
     .members = "{\"sliding_window\":null,\"partial_rotary_factor\":1," EPS_5 THETA_1E4 UNTIED "}",
     .qkv_bias = EXO_HF_NEVER,
     .o_bias = EXO_HF_NEVER,
     .ffn_bias = EXO_HF_NEVER},
    {.model_type = "granite",
     .arch = "granite",
     .members = "{\"attention_bias\":false,\"mlp_bias\":false," SCALES EPS_6 THETA_1E4 UNTIED "}",
     .qkv_bias = "attention_bias",
     .o_bias = "attention_bias",
     .ffn_bias = "mlp_bias",
     .interleaved = true},
    {.model_type = "granitemoe",
     .arch = "granitemoe",
     .names = granitemoe,
     .members = "{" MOE_LLAMA "\"attention_bias\":false," SCALES EPS_6 THETA_1E4 UNTIED "}",
     .qkv_bias = "attention_bias",
     .o_bias = "attention_bias",
     .interleaved = true},
    {.model_type = "granitemoeshared",
     .arch = "granitemoe",
     .names = granitemoe,
     .members = "{" MOE_LLAMA "\"attention_bias\":false,"
                "\"shared_intermediate_size\":0," SCALES EPS_6 THETA_1E4 UNTIED "}",
     .qkv_bias = "attention_bias",
     .o_bias = "attention_bias",
     .interleaved = true},
    {.model_type = "glm4",
     .arch = "glm4",
     .names = glm4,
     .members = "{\"num_key_value_heads\":2,\"head_dim\":128,\"attention_bias\":true,"
                "\"partial_rotary_factor\":0.5,\"rms_norm_eps\":1.5625e-7," THETA_1E4 UNTIED "}",
     .qkv_bias = "attention_bias",
     .o_bias = EXO_HF_NEVER,
     .ffn_bias = EXO_HF_NEVER},
    {.model_type = "gpt_oss",
     .arch = "gpt-oss",
     .names = gpt_oss,
     .members = "{\"num_local_experts\":128,\"num_experts_per_tok\":4,\"head_dim\":64,"
                "\"num_attention_heads\":64,\"num_key_value_heads\":8,\"sliding_window\":128,"
                "\"attention_bias\":true,\"swiglu_limit\":7,\"swiglu_alpha\":1.702,"
                "\"rope_theta\":15e4," EPS_5 UNTIED "}",
     .qkv_bias = "attention_bias",
     .o_bias = "attention_bias"},
    {.model_type = "deepseek_v2",
     .arch = "deepseek2",
     .names = deepseek,
     .members = "{\"n_routed_experts\":64,\"n_shared_experts\":2,\"num_experts_per_tok\":null,"
                "\"moe_intermediate_size\":1407,\"first_k_dense_replace\":0,\"n_group\":null,"
                "\"topk_group\":null,\"topk_method\":\"greedy\",\"norm_topk_prob\":false,"
                "\"routed_scaling_factor\":1,\"scoring_func\":\"softmax\"," LATENT "}"},
    {.model_type = "deepseek_v3",
     .arch = "deepseek2",
     .names = deepseek,
     .members = "{\"n_routed_experts\":256,\"n_shared_experts\":1,\"num_experts_per_tok\":8,"
                "\"moe_intermediate_size\":2048,\"first_k_dense_replace\":3,\"n_group\":8,"
                "\"topk_group\":4,\"num_nextn_predict_layers\":0,\"topk_method\":\"noaux_tc\","
                "\"norm_topk_prob\":true,"
                "\"routed_scaling_factor\":2.5,\"scoring_func\":\"sigmoid\"," LATENT "}"},
    {.model_type = "olmo2",
     .arch = "olmo2",
     .names = gemma2,
     .members = "{\"attention_bias\":false," EPS_5 THETA_1E4 UNTIED "}",
     .qkv_bias = "attention_bias",
     .o_bias = "attention_bias",
     .ffn_bias = EXO_HF_NEVER},
    {.model_type = "olmoe",
     .arch = "olmoe",
     .members = "{\"num_experts\":64,\"num_experts_per_tok\":8,\"norm_topk_prob\":false,"
                "\"attention_bias\":false," EPS_5 THETA_1E4 UNTIED "}",
     .qkv_bias = "attention_bias",
     .o_bias = "attention_bias"},
    {.model_type = "starcoder2",
     .arch = "starcoder2",
     .names = starcoder2,
     .members = "{\"num_key_value_heads\":2,\"norm_epsilon\":1e-5,\"use_bias\":true,"
                "\"sliding_window\":null," THETA_1E4 TIED "}",
     .qkv_bias = "use_bias",
     .o_bias = "use_bias",
     .ffn_bias = "use_bias"},
    {.model_type = "cohere",
     .arch = "command-r",
     .members = "{\"layer_norm_eps\":1e-5,\"logit_scale\":0.0625,\"use_qk_norm\":false,"
                "\"attention_bias\":false,\"rope_theta\":5e5," TIED "}",
     .qkv_bias = "attention_bias",
     .o_bias = "attention_bias",
     .ffn_bias = EXO_HF_NEVER},
    {.model_type = "smollm3",
     .arch = "smollm3",
     .members = "{\"num_key_value_heads\":4,\"attention_bias\":false,\"mlp_bias\":false,"
                "\"use_sliding_window\":false,\"sliding_window\":null,"
                "\"no_rope_layer_interval\":4,\"rope_theta\":2e6," EPS_6 TIED "}",
     .qkv_bias = "attention_bias",
     .o_bias = "attention_bias",
     .ffn_bias = "mlp_bias",
     .interleaved = true},
    {.model_type = "ernie4_5",
     .arch = "ernie4_5",
     .members = "{\"num_key_value_heads\":2,\"head_dim\":128,\"use_bias\":false,"
                "\"rope_theta\":5e5," EPS_5 TIED "}",
     .qkv_bias = "use_bias",
     .o_bias = "use_bias",
     .ffn_bias = "use_bias"},
    {.model_type = "seed_oss",
     .arch = "seed_oss",
     .names = seed_oss,
     .members = "{\"num_key_value_heads\":8,\"head_dim\":128,\"attention_bias\":true,"
                "\"attention_out_bias\":false,\"mlp_bias\":false," EPS_6 THETA_1E4 UNTIED "}",
     .qkv_bias = "attention_bias",
     .o_bias = "attention_out_bias",
     .ffn_bias = "mlp_bias"},
    {.model_type = "internlm2",
     .arch = "internlm2",
     .names = internlm2,
     .members = "{\"bias\":false," EPS_6 THETA_1E4 UNTIED "}",
     .qkv_bias = "bias",
     .o_bias = "bias",
     .ffn_bias = EXO_HF_NEVER,
     .interleaved = true},
    {.model_type = "exaone",
     .arch = "exaone",
     .names = exaone,
     .members = "{\"layer_norm_epsilon\":1e-5," THETA_1E4 TIED "}",
     .qkv_bias = EXO_HF_NEVER,
     .o_bias = EXO_HF_NEVER,
     .ffn_bias = EXO_HF_NEVER},
    {.model_type = "bert",
     .arch = "bert",
     .names = bert,
     .prefix = "bert.",
     .members = "{\"layer_norm_eps\":1e-12,\"type_vocab_size\":2," TIED "}",
     .qkv_bias = EXO_HF_ALWAYS,
     .o_bias = EXO_HF_ALWAYS,
     .ffn_bias = EXO_HF_ALWAYS},
    {.model_type = "nomic_bert",
     .arch = "nomic-bert",
     .names = nomic_bert,
     .members = "{\"layer_norm_epsilon\":1e-5,\"type_vocab_size\":2,\"rotary_emb_base\":1e3,"
                "\"rotary_emb_fraction\":0," TIED "}"},
};
enum { N_ARCHS = sizeof archs / sizeof *archs };

const exo_hf_arch *exo_hf_arch_at(size_t i) { return i < N_ARCHS ? &archs[i] : NULL; }

const exo_hf_arch *exo_hf_arch_find(const char *model_type) {
    for (size_t i = 0; i < N_ARCHS; i++) {
        if (strcmp(archs[i].model_type, model_type) == 0) return &archs[i];
    }
    return NULL;
}

/* ---- names ---- */

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

/* Models that see pictures, too, have the text model's names behind one of these. */
static const char *without_wrapper(const char *theirs, char out[256]) {
    static const char outer[] = "language_model.", inner[] = "model.language_model.";
    if (strncmp(theirs, outer, sizeof outer - 1) == 0) return theirs + sizeof outer - 1;
    if (strncmp(theirs, inner, sizeof inner - 1) != 0) return theirs;
    snprintf(out, 256, "model.%s", theirs + sizeof inner - 1);
    return out;
}

bool exo_hf_is_vision(const char *theirs) {
    static const char *const parts[] = {"vision_tower.", "vision_model.", "multi_modal_projector.",
                                        "image_newline"};
    if (strncmp(theirs, "model.", 6) == 0) theirs += 6;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (strncmp(theirs, parts[i], strlen(parts[i])) == 0) return true;
    }
    return false;
}

bool exo_hf_find_name(const exo_hf_arch *a, const char *theirs, exo_hf_place *out) {
    uint32_t index[2];
    char unwrapped[256], whole[256];
    size_t n = a->prefix != NULL ? strlen(a->prefix) : 0;
    theirs = without_wrapper(theirs, unwrapped);
    if (n > 0 && strncmp(theirs, a->prefix, n) == 0) theirs += n;
    const exo_hf_name *row = find(a->names, theirs, index);
    if (row == NULL) row = find(common_names, theirs, index);
    if (row == NULL) { /* saved without the head around it */
        snprintf(whole, sizeof whole, "model.%.240s", theirs);
        row = find(a->names, whole, index);
        if (row == NULL) row = find(common_names, whole, index);
    }
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
