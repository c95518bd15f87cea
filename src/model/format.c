/* format.c - see format.h.
 *
 * A template that deals with reasoning names the mark behind it, be it to write it, or to cut the
 * reasoning out of earlier turns. */
#include "model/format.h"

#include "model/tokenizer.h"

#include <string.h>

static const exo_format_marks reasoning[EXO_N_FORMATS] = {
    [EXO_FORMAT_THINK] = {"<think>", "</think>"},
    [EXO_FORMAT_THINK_SQUARE] = {"[THINK]", "[/THINK]"},
    [EXO_FORMAT_SEED_THINK] = {"<seed:think>", "</seed:think>"},
    [EXO_FORMAT_START_THINKING] = {"<|START_THINKING|>", "<|END_THINKING|>"},
    [EXO_FORMAT_THOUGHT_CHANNEL] = {"<|channel>thought\n", "<channel|>"},
};

static const char *const harmony[EXO_N_MARKS] = {
    [EXO_MARK_START] = "<|start|>",
    [EXO_MARK_CHANNEL] = "<|channel|>",
    [EXO_MARK_MESSAGE] = "<|message|>",
    [EXO_MARK_END] = "<|end|>",
};

const exo_format_marks *exo_format_reasoning(exo_format f) {
    return f < EXO_N_FORMATS && reasoning[f].open != NULL ? &reasoning[f] : NULL;
}

bool exo_format_harmony_ids(const exo_tokenizer *t, int32_t ids[EXO_N_MARKS]) {
    bool all = true;
    for (int i = 0; all && i < EXO_N_MARKS; i++) {
        exo_ids found = {0};
        size_t n = strlen(harmony[i]);
        all = exo_tokenize(t, harmony[i], n, EXO_TOKENIZE_SPECIAL, &found, NULL) == EXO_OK &&
              found.n == 1;
        if (all) {
            exo_str piece = exo_tokenizer_piece(t, found.ids[0]);
            all = piece.n == n && memcmp(piece.s, harmony[i], n) == 0;
            ids[i] = found.ids[0];
        }
        exo_ids_finish(&found);
    }
    return all;
}

static bool holds(exo_str source, const char *text) {
    size_t n = strlen(text);
    for (size_t i = 0; i + n <= source.n; i++) {
        if (source.s[i] == text[0] && memcmp(source.s + i, text, n) == 0) return true;
    }
    return false;
}

exo_format exo_format_of_template(exo_str source, const exo_tokenizer *t) {
    int32_t ids[EXO_N_MARKS];
    if (holds(source, harmony[EXO_MARK_CHANNEL]) && exo_format_harmony_ids(t, ids)) {
        return EXO_FORMAT_HARMONY;
    }
    for (int f = 0; f < EXO_N_FORMATS; f++) {
        if (reasoning[f].close != NULL && holds(source, reasoning[f].close)) return (exo_format)f;
    }
    return EXO_FORMAT_PLAIN;
}

exo_format exo_chat_format(const exo_model *m) {
    exo_str source;
    if (exo_model_template(m) == NULL ||
        !exo_gguf_str(exo_model_file(m), "tokenizer.chat_template", &source)) {
        return EXO_FORMAT_PLAIN;
    }
    return exo_format_of_template(source, exo_model_tokenizer(m));
}
