/* chat.c - see chat.h. */
#include "model/chat.h"

#include <string.h>

static void set_default(json_t *vars, const char *key, json_t *value_take) {
    if (json_object_get(vars, key) == NULL) {
        json_object_set_new(vars, key, value_take);
    } else {
        json_decref(value_take);
    }
}

static json_t *piece_json(const exo_tokenizer *t, int32_t id) {
    if (id < 0) return json_string("");
    exo_str piece = exo_tokenizer_piece(t, id);
    return json_stringn(piece.s, piece.n);
}

/* The contents alone, one message a line. */
static void plain_contents(const json_t *messages, exo_buf *out) {
    size_t i;
    json_t *message;
    json_array_foreach(messages, i, message) {
        const json_t *content = json_object_get(message, "content");
        if (i > 0) exo_buf_putc(out, '\n');
        exo_buf_append(out, json_string_value(content), json_string_length(content));
    }
}

static bool begins_with_bos(const exo_tokenizer *t, const exo_buf *text) {
    int32_t bos = exo_tokenizer_bos(t);
    if (bos < 0) return false;
    exo_str piece = exo_tokenizer_piece(t, bos);
    return piece.n > 0 && text->n >= piece.n && memcmp(text->data, piece.s, piece.n) == 0;
}

exo_status exo_chat_tokenize(const exo_model *m, json_t *vars, exo_ids *ids, exo_error *err) {
    const exo_tokenizer *t = exo_model_tokenizer(m);
    const exo_template *template = exo_model_template(m);
    exo_buf text = {0};
    exo_status st = EXO_OK;
    json_t *all = json_copy(vars);
    if (all == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a conversation");
    set_default(all, "bos_token", piece_json(t, exo_tokenizer_bos(t)));
    set_default(all, "eos_token", piece_json(t, exo_tokenizer_eos(t)));
    set_default(all, "add_generation_prompt", json_true());
    if (template != NULL) {
        st = exo_template_render(template, all, NULL, &text, err);
    } else {
        plain_contents(json_object_get(all, "messages"), &text);
    }
    if (st == EXO_OK && !exo_buf_ok(&text)) {
        st = exo_error_set(err, EXO_ENOMEM, "out of memory for a prompt");
    }
    if (st == EXO_OK) {
        unsigned flags = EXO_TOKENIZE_SPECIAL | (begins_with_bos(t, &text) ? 0 : EXO_TOKENIZE_BOS);
        st = exo_tokenize(t, exo_buf_str(&text), text.n, flags, ids, err);
    }
    exo_buf_finish(&text);
    json_decref(all);
    return st;
}
