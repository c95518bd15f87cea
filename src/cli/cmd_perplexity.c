/* cmd_perplexity.c - `exo perplexity`: how surprised a model is by a text, and the hash of all
 * logits' bits, which proves that two runs computed the same. */
#include "cli/cli.h"

#include "base/hash.h"
#include "compute/dmath.h"
#include "model/tokenizer.h"

#include <exo/session.h>
#include <math.h>
#include <stdio.h>

#define MAX_TEXT_BYTES (256u << 20)

typedef struct {
    exo_tokens window;
    uint32_t n_vocab;
    double sum; /* of -log p(next token) */
    uint64_t n;
    exo_sha256 *hash;
} score;

static double log_prob(const float *logits, uint32_t n_vocab, int32_t id) {
    float max = logits[0];
    for (uint32_t i = 1; i < n_vocab; i++) max = logits[i] > max ? logits[i] : max;
    double sum = 0;
    for (uint32_t i = 0; i < n_vocab; i++) sum += exo_dexp((double)logits[i] - (double)max);
    return (double)logits[id] - (double)max - exo_dlog(sum);
}

static void on_logits(void *ud, size_t pos, const float *logits) {
    score *s = ud;
    exo_sha256_update(s->hash, logits, s->n_vocab * sizeof *logits);
    if (pos + 1 >= s->window.n) return;
    s->sum -= log_prob(logits, s->n_vocab, s->window.ids[pos + 1]);
    s->n++;
}

/* Windows of the context's length, each from an empty cache. */
static exo_status score_all(exo_session *session, exo_tokens all, score *s, exo_error *err) {
    size_t ctx = exo_session_ctx(session);
    for (size_t at = 0; at < all.n; at += ctx) {
        s->window = (exo_tokens){all.ids + at, all.n - at < ctx ? all.n - at : ctx};
        exo_status st = exo_session_eval(session, s->window, 0, on_logits, s, err);
        if (st != EXO_OK) return st;
    }
    return EXO_OK;
}

static int print_score(const score *s, bool as_json) {
    uint8_t digest[EXO_SHA256_BYTES];
    char hex[EXO_SHA256_HEX_BYTES];
    exo_sha256_peek(s->hash, digest);
    exo_hex(digest, sizeof digest, hex);
    double perplexity = exo_dexp(s->sum / (double)s->n);
    if (!isfinite(perplexity)) {
        exo_error err;
        exo_error_set(&err, EXO_EFORMAT,
                      "the perplexity over %llu tokens is no finite number: this model's weights "
                      "make logits that are not finite",
                      (unsigned long long)s->n);
        return exo_cli_fail(&err);
    }
    if (as_json) {
        return exo_cli_print_json(json_pack("{s:f, s:I, s:s}", "perplexity", perplexity, "tokens",
                                            (json_int_t)s->n, "logits_sha256", hex));
    }
    printf("perplexity %.6f over %llu tokens\nlogits_sha256 %s\n", perplexity,
           (unsigned long long)s->n, hex);
    return EXO_EXIT_OK;
}

static int run(int argc, char **argv) {
    const exo_command *c = &exo_cmd_perplexity;
    const char *model = NULL, *threads = NULL, *ctx = NULL, *chunk = NULL, *kv = NULL, *file[1];
    bool as_json = false, pin = false, numa = false;
    exo_session_desc d = {0};
    const exo_option options[] = {{.name = "m", .value = &model},
                                  {.name = "json", .seen = &as_json},
                                  {.name = "device", .value = &d.device},
                                  {.name = "threads", .value = &threads},
                                  {.name = "pin", .seen = &pin},
                                  {.name = "numa", .seen = &numa},
                                  {.name = "ctx", .value = &ctx},
                                  {.name = "chunk", .value = &chunk},
                                  {.name = "kv-f16", .seen = &d.kv_f16},
                                  {.name = "kv", .value = &kv},
                                  {0}};
    int rc = exo_cli_parse(c, argc, argv, options, file, 1);
    if (rc != EXO_EXIT_OK) return rc;
    if (model == NULL || file[0] == NULL) return exo_cli_usage(c, "-m MODEL and FILE are needed");
    if (!exo_cli_device(c, d.device) || !exo_cli_kv(c, kv, &d.kv_f16, &d.kv_q8_0)) {
        return EXO_EXIT_USAGE;
    }
    if (!exo_cli_u32(c, "threads", threads, 1, 1024, &d.n_threads) ||
        !exo_cli_u32(c, "ctx", ctx, 2, 1u << 24, &d.ctx_tokens) ||
        !exo_cli_u32(c, "chunk", chunk, 1, 2048, &d.prefill_chunk) || !exo_cli_place(pin, numa)) {
        return EXO_EXIT_USAGE;
    }
    exo_error err = {0};
    exo_model *m = NULL;
    exo_session *session = NULL;
    exo_buf text = {0};
    exo_ids ids = {0};
    score s = {.hash = exo_sha256_create()};
    exo_status st = s.hash != NULL ? EXO_OK : exo_error_set(&err, EXO_ENOMEM, "out of memory");
    if (st == EXO_OK) st = exo_cli_read_file(file[0], &text, MAX_TEXT_BYTES, &err);
    if (st == EXO_OK) st = exo_cli_open_model(model, &m, &err);
    if (st == EXO_OK) st = exo_session_create(m, &d, &session, &err);
    if (st == EXO_OK && exo_session_ctx(session) < 2) {
        st = exo_error_set(&err, EXO_EINVAL,
                           "a context of %u token predicts none: perplexity needs 2 or more",
                           exo_session_ctx(session));
    }
    if (st == EXO_OK) {
        s.n_vocab = exo_model_hparams(m)->n_vocab;
        st = exo_tokenize(exo_model_tokenizer(m), exo_buf_str(&text), text.n, EXO_TOKENIZE_BOS,
                          &ids, &err);
    }
    if (st == EXO_OK && ids.n < 2) st = exo_error_set(&err, EXO_EINVAL, "the text is too short");
    if (st == EXO_OK) st = score_all(session, (exo_tokens){ids.ids, ids.n}, &s, &err);
    rc = st == EXO_OK ? print_score(&s, as_json) : exo_cli_fail(&err);
    exo_sha256_destroy(s.hash);
    exo_ids_finish(&ids);
    exo_buf_finish(&text);
    exo_session_destroy(session);
    exo_model_unref(m);
    return rc;
}

const exo_command exo_cmd_perplexity = {
    .name = "perplexity",
    .summary = "perplexity of a text, and the hash of all logits' bits",
    .help = "usage: exo perplexity -m MODEL FILE [--ctx N] [--threads N] [--chunk N] [--kv TYPE]\n"
            "                      [--device D] [--pin] [--numa] [--json]\n\n"
            "The text is cut into windows of the context's length, each read from an empty cache;\n"
            "every token but a window's first counts.  Equal hashes mean equal computations.\n\n"
            "  exo perplexity -m tiny README.md\n",
    .run = run,
};
