/* hf_family.c - which class of transformers a config.json is of, and what that class adds to it.
 *
 * transformers leaves out of a file what is as the class has it, so that reading a file means to
 * know the classes.  Models that see pictures, too, have the text model's part in text_config. */
#include "model/hf_impl.h"

#include <stdio.h>
#include <string.h>

/* Around text models that read causally, pictures or not. */
static const struct {
    const char *model_type, *text; /* which text_config is when it does not say */
} wrappers[] = {{"gemma3", "gemma3_text"}, {"mistral3", "mistral"}, {"llava", "llama"}};

static exo_status unknown(const char *type, exo_error *err) {
    char list[160] = "";
    const exo_hf_arch *a;
    for (size_t i = 0, n = 0; (a = exo_hf_arch_at(i)) != NULL && n < sizeof list; i++) {
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i > 0 ? ", " : "", a->model_type);
    }
    return exo_error_set(err, EXO_EUNSUPPORTED,
                         "model_type \"%.40s\" is not supported as safetensors (%.120s... are); "
                         "a GGUF file of it may be",
                         type, list);
}

bool exo_hf_has_member(const exo_hf_arch *a, const char *name) {
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\":", name);
    return strstr(a->members, quoted) != NULL;
}

/* What stands beside text_config and concerns it. */
static exo_status take_from_outside(const json_t *file, json_t *text, exo_error *err) {
    static const char *const shared[] = {"eos_token_id", "bos_token_id", "quantization_config"};
    for (size_t i = 0; i < sizeof shared / sizeof *shared; i++) {
        json_t *v = json_object_get(file, shared[i]);
        if (v == NULL || json_object_get(text, shared[i]) != NULL) continue;
        if (json_object_set(text, shared[i], v) != 0) {
            return exo_error_set(err, EXO_ENOMEM, "out of memory for config.json");
        }
    }
    return EXO_OK;
}

/* The part that describes the text model, and its model_type. */
static exo_status find_text(json_t *file, json_t **text, const char **type, exo_error *err) {
    *type = json_string_value(json_object_get(file, "model_type"));
    *text = file;
    if (*type == NULL) return exo_error_set(err, EXO_EFORMAT, "config.json names no model_type");
    for (size_t i = 0; i < sizeof wrappers / sizeof *wrappers; i++) {
        if (strcmp(wrappers[i].model_type, *type) != 0) continue;
        *text = json_object_get(file, "text_config");
        if (!json_is_object(*text)) {
            return exo_error_set(err, EXO_EFORMAT, "config.json: a %s model without text_config",
                                 *type);
        }
        const char *own = json_string_value(json_object_get(*text, "model_type"));
        *type = own != NULL ? own : wrappers[i].text;
        return take_from_outside(file, *text, err);
    }
    return EXO_OK;
}

exo_status exo_hf_find_family(json_t *file, const exo_hf_arch **out, json_t **config,
                              exo_error *err) {
    const char *type;
    json_t *text;
    *out = NULL;
    *config = NULL;
    exo_status st = find_text(file, &text, &type, err);
    if (st != EXO_OK) return st;
    const exo_hf_arch *a = exo_hf_arch_find(type);
    if (a == NULL) return unknown(type, err);
    json_t *silent = json_loads(a->members, 0, NULL);
    bool filled = silent != NULL && json_object_update_missing(text, silent) == 0;
    json_decref(silent);
    if (!filled) return exo_error_set(err, EXO_ENOMEM, "out of memory for config.json");
    *out = a;
    *config = json_incref(text);
    return EXO_OK;
}
