/* logits.c - all logits of a model on a device: what tests/integration/test_vulkan_pipeline.py
 * compares with the CPU's.
 *
 *   usage: logits MODEL DEVICE N N_PROMPT
 *
 * Writes (N, n_vocab) floats for N tokens that only N and the vocabulary fix, of which the first
 * N_PROMPT count as the prompt: some devices have kernels of their own for those.  Failures go to
 * stderr with exit code 1. */
#include "model/model.h"

#include <exo/session.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void need(exo_status st, const exo_error *err) {
    if (st == EXO_OK) return;
    fprintf(stderr, "%s: %s\n", exo_status_name(st), err->message);
    exit(1);
}

static void write_logits(void *ud, size_t pos, const float *logits) {
    (void)pos;
    if (fwrite(logits, sizeof *logits, *(const uint32_t *)ud, stdout) == 0) exit(1);
}

int main(int argc, char **argv) {
    exo_error err = {.message = ""};
    exo_model *m = NULL;
    exo_session *s = NULL;
    if (argc != 5) {
        fprintf(stderr, "usage: logits MODEL DEVICE N N_PROMPT\n");
        return 2;
    }
    size_t n = strtoul(argv[3], NULL, 10);
    int32_t *ids = calloc(n, sizeof *ids);
    if (n == 0 || ids == NULL) return 1;
    need(exo_model_open(argv[1], &m, &err), &err);
    uint32_t n_vocab = exo_model_hparams(m)->n_vocab;
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)((i * 7919 + 31) % n_vocab);
    need(exo_session_create(m, &(exo_session_desc){.device = argv[2]}, &s, &err), &err);
    exo_session_set_prompt(s, strtoul(argv[4], NULL, 10));
    need(exo_session_eval(s, (exo_tokens){ids, n}, 0, write_logits, &n_vocab, &err), &err);
    if (strcmp(exo_session_device(s), argv[2]) !=
        0) { /* another one's logits would prove nothing */
        fprintf(stderr, "%s\n", exo_session_device_reason(s));
        return 1;
    }
    exo_session_destroy(s);
    exo_model_unref(m);
    free(ids);
    return fflush(stdout) == 0 ? 0 : 1;
}
