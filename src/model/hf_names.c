/* hf_names.c - architectures of transformers and their tensor names, as tables.
 *
 * A new architecture is a row here, with a table of the names in which it differs from Llama's. */
#include "model/hf_impl.h"

#include <stdio.h>
#include <string.h>

static const exo_hf_name common_names[] = {
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.norm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
    {"model.layers.%u.input_layernorm.weight", "blk.%u.attn_norm.weight"},
    {"model.layers.%u.self_attn.q_proj.weight", "blk.%u.attn_q.weight"},
    {"model.layers.%u.self_attn.k_proj.weight", "blk.%u.attn_k.weight"},
    {"model.layers.%u.self_attn.v_proj.weight", "blk.%u.attn_v.weight"},
    {"model.layers.%u.self_attn.o_proj.weight", "blk.%u.attn_output.weight"},
    {"model.layers.%u.self_attn.q_proj.bias", "blk.%u.attn_q.bias"},
    {"model.layers.%u.self_attn.k_proj.bias", "blk.%u.attn_k.bias"},
    {"model.layers.%u.self_attn.v_proj.bias", "blk.%u.attn_v.bias"},
    {"model.layers.%u.self_attn.o_proj.bias", "blk.%u.attn_output.bias"},
    {"model.layers.%u.self_attn.q_norm.weight", "blk.%u.attn_q_norm.weight"},
    {"model.layers.%u.self_attn.k_norm.weight", "blk.%u.attn_k_norm.weight"},
    {"model.layers.%u.post_attention_layernorm.weight", "blk.%u.ffn_norm.weight"},
    {"model.layers.%u.mlp.gate_proj.weight", "blk.%u.ffn_gate.weight"},
    {"model.layers.%u.mlp.up_proj.weight", "blk.%u.ffn_up.weight"},
    {"model.layers.%u.mlp.down_proj.weight", "blk.%u.ffn_down.weight"},
    {"model.layers.%u.mlp.gate_proj.bias", "blk.%u.ffn_gate.bias"},
    {"model.layers.%u.mlp.up_proj.bias", "blk.%u.ffn_up.bias"},
    {"model.layers.%u.mlp.down_proj.bias", "blk.%u.ffn_down.bias"},
    {"model.layers.%u.self_attn.rotary_emb.inv_freq", NULL}, /* follows from rope_theta */
    {NULL, NULL},
};

static const exo_hf_arch archs[] = {
    {.model_type = "llama", .arch = "llama", .interleaved = true},
    {.model_type = "mistral", .arch = "llama", .interleaved = true},
    {.model_type = "qwen2", .arch = "qwen2"},
    {.model_type = "qwen3", .arch = "qwen3", .head_dim = 128},
};
enum { N_ARCHS = sizeof archs / sizeof *archs };

exo_status exo_hf_find_arch(const json_t *config, const exo_hf_arch **out, exo_error *err) {
    const char *type = json_string_value(json_object_get(config, "model_type"));
    *out = NULL;
    if (type == NULL) return exo_error_set(err, EXO_EFORMAT, "config.json names no model_type");
    for (int i = 0; i < N_ARCHS; i++) {
        if (strcmp(archs[i].model_type, type) != 0) continue;
        *out = &archs[i];
        return EXO_OK;
    }
    return exo_error_set(err, EXO_EUNSUPPORTED,
                         "model_type \"%.40s\" is not supported as safetensors (llama, mistral, "
                         "qwen2 and qwen3 are); a GGUF file of it may be",
                         type);
}

/* Whether name fits the pattern; *layer is what stands for %u, without leading zeros. */
static bool match(const char *pattern, const char *name, uint32_t *layer) {
    const char *mark = strstr(pattern, "%u");
    *layer = 0;
    if (mark == NULL) return strcmp(pattern, name) == 0;
    size_t n = (size_t)(mark - pattern);
    if (strncmp(pattern, name, n) != 0) return false;
    const char *digits = name + n;
    size_t k = strspn(digits, "0123456789");
    if (k == 0 || k > 6 || (k > 1 && digits[0] == '0')) return false;
    for (size_t i = 0; i < k; i++) *layer = *layer * 10 + (uint32_t)(digits[i] - '0');
    return strcmp(mark + 2, digits + k) == 0;
}

static const exo_hf_name *find(const exo_hf_name *table, const char *theirs, uint32_t *layer) {
    for (; table != NULL && table->theirs != NULL; table++) {
        if (match(table->theirs, theirs, layer)) return table;
    }
    return NULL;
}

const char *exo_hf_our_name(const exo_hf_arch *a, const char *theirs, char out[64], bool *known) {
    uint32_t layer;
    const exo_hf_name *row = find(a->names, theirs, &layer);
    if (row == NULL) row = find(common_names, theirs, &layer);
    *known = row != NULL;
    if (row == NULL || row->ours == NULL) return NULL;
    const char *mark = strstr(row->ours, "%u");
    if (mark == NULL) {
        snprintf(out, 64, "%s", row->ours);
    } else {
        snprintf(out, 64, "%.*s%u%s", (int)(mark - row->ours), row->ours, layer, mark + 2);
    }
    return out;
}
