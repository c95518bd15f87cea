/* cmd_run.c - `exo run`: one prompt, one answer, on this machine's device. */
#include "cli/cli.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/host.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/answer.h"
#include "engine/sampler.h"
#include "model/chat.h"
#include "model/format.h"

#include <exo/session.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>

#define SETTLE_MS 10000u /* after the answer, for weights to be kept for the next start */

typedef struct {
    const char *model, *prompt, *device;
    bool raw, json, kv_f16, kv_q8_0, pin, numa;
    uint32_t threads, ctx, chunk;
    exo_request request;
} run_options;

typedef struct {
    exo_model *model;
    exo_session *session;
    exo_sampler *sampler;
    exo_answer *answer;
    exo_sha256 *hash; /* of all logits' bits, when asked */
    exo_ids ids;      /* prompt, then answer */
    exo_buf text;     /* the answer so far */
    exo_buf reasoning;
    exo_finish finish;
    json_t *moves; /* array: where the answer went on on another device */
    double load_s, prompt_s, decode_s;
    double first_token_s; /* since exec */
} run_state;

static void finish_run(run_state *s) {
    exo_answer_destroy(s->answer);
    exo_sampler_destroy(s->sampler);
    exo_session_destroy(s->session);
    exo_model_unref(s->model);
    exo_sha256_destroy(s->hash);
    exo_ids_finish(&s->ids);
    exo_buf_finish(&s->text);
    exo_buf_finish(&s->reasoning);
    json_decref(s->moves);
}

static exo_status make_prompt(run_state *s, run_options *o, exo_error *err) {
    if (o->raw) {
        return exo_tokenize(exo_model_tokenizer(s->model), o->prompt, strlen(o->prompt),
                            EXO_TOKENIZE_BOS | EXO_TOKENIZE_SPECIAL, &s->ids, err);
    }
    json_t *vars = json_pack("{s:[{s:s, s:s}]}", "messages", "role", "user", "content", o->prompt);
    if (vars == NULL) return exo_error_set(err, EXO_EINVAL, "the prompt is not valid UTF-8");
    exo_status st = exo_chat_tokenize(s->model, vars, &s->ids, err);
    o->request.format = exo_chat_format(s->model);
    json_decref(vars);
    return st;
}

static exo_status open_session(run_state *s, const run_options *o, exo_error *err) {
    uint64_t begin = exo_now_us();
    exo_bar bar = {.what = "loading"};
    exo_session_desc d = {.device = o->device,
                          .n_threads = o->threads,
                          .ctx_tokens = o->ctx,
                          .prefill_chunk = o->chunk,
                          .kv_f16 = o->kv_f16,
                          .kv_q8_0 = o->kv_q8_0,
                          .load_progress = exo_cli_progress,
                          .ud = &bar};
    exo_status st = exo_cli_open_model(o->model, &s->model, err);
    if (st == EXO_OK) st = exo_session_create(s->model, &d, &s->session, err);
    exo_cli_progress_end(&bar);
    s->load_s = (double)(exo_now_us() - begin) * 1e-6;
    return st;
}

/* Makes the KV equal to all ids.  A device that fails meanwhile is replaced by the CPU, and the
 * place in the answer noted. */
static exo_status sync(run_state *s, const run_options *o, exo_bar *bar, exo_error *err) {
    char before[32];
    snprintf(before, sizeof before, "%s", exo_session_device(s->session));
    exo_tokens all = {s->ids.ids, s->ids.n};
    exo_status st =
        exo_session_sync(s->session, all, bar != NULL ? exo_cli_progress : NULL, bar, err);
    const char *now = exo_session_device(s->session);
    if (strcmp(before, now) != 0) {
        json_array_append_new(s->moves, json_pack("{s:I, s:s, s:s, s:s}", "at_token",
                                                  (json_int_t)(s->ids.n - o->request.n_prompt),
                                                  "from", before, "to", now, "reason",
                                                  exo_session_device_reason(s->session)));
    }
    return st;
}

/* Draws one token from the logits of the last position. */
static exo_status draw(run_state *s, const exo_request *r, exo_draw *out, exo_error *err) {
    const float *logits = exo_session_logits(s->session);
    uint32_t n_vocab = exo_model_hparams(s->model)->n_vocab;
    if (s->hash != NULL) exo_sha256_update(s->hash, logits, n_vocab * sizeof *logits);
    exo_tokens history = {s->ids.ids, s->ids.n};
    return exo_sampler_draw(s->sampler, &r->sampling, history, r->n_prompt, logits, out, err);
}

static exo_status push_id(exo_ids *ids, int32_t id, exo_error *err) {
    if (ids->n == ids->cap) {
        return exo_error_set(err, EXO_EINTERNAL, "the answer outgrew its context");
    }
    ids->ids[ids->n++] = id;
    return EXO_OK;
}

/* The answer goes to stdout, what the model thinks before it to stderr. */
static void show(run_state *s, const run_options *o, size_t shown) {
    exo_str reasoning = exo_answer_reasoning(s->answer);
    if (!o->json) {
        bool begins = shown == 0 && s->text.n > 0;
        fwrite(reasoning.s, 1, reasoning.n, stderr);
        if (begins && s->reasoning.n + reasoning.n > 0) fputs("\n\n", stderr);
        fwrite(exo_buf_str(&s->text) + shown, 1, s->text.n - shown, stdout);
        fflush(stdout);
    }
    exo_buf_append(&s->reasoning, reasoning.s, reasoning.n);
}

static void tell_first_token(run_state *s) {
    s->first_token_s = (double)exo_host_process_us() * 1e-6;
    exo_info("first token %.2f s after exec: loading took %.2f s, the prompt %.2f s",
             s->first_token_s, s->load_s, s->prompt_s);
}

static exo_status generate(run_state *s, const run_options *o, exo_error *err) {
    const exo_request *r = &o->request;
    uint32_t ctx = exo_session_ctx(s->session);
    uint64_t begin = exo_now_us();
    exo_bar bar = {.what = "reading the prompt"};
    exo_session_set_prompt(s->session, s->ids.n);
    exo_status st = sync(s, o, &bar, err);
    exo_cli_progress_end(&bar);
    s->prompt_s = (double)(exo_now_us() - begin) * 1e-6;
    begin = exo_now_us();
    while (st == EXO_OK && s->finish == EXO_GOING_ON) {
        exo_draw d;
        st = draw(s, r, &d, err);
        if (st == EXO_OK) st = push_id(&s->ids, d.id, err);
        if (st != EXO_OK) break;
        if (s->first_token_s == 0) tell_first_token(s);
        size_t shown = s->text.n;
        st = exo_answer_push(s->answer, d.id, s->ids.n >= ctx, &s->text, &s->finish);
        if (st != EXO_OK) return exo_error_set(err, st, "out of memory for the answer");
        show(s, o, shown);
        if (s->finish != EXO_GOING_ON) break;
        st = sync(s, o, NULL, err);
    }
    s->decode_s = (double)(exo_now_us() - begin) * 1e-6;
    return st;
}

/* Opens everything, reads the prompt and answers it. */
static exo_status answer(run_state *s, run_options *o, exo_error *err) {
    exo_status st = open_session(s, o, err);
    if (st == EXO_OK) st = make_prompt(s, o, err);
    if (st != EXO_OK) return st;
    uint32_t ctx = exo_session_ctx(s->session);
    size_t n_prompt = s->ids.n;
    if (n_prompt == 0) return exo_error_set(err, EXO_EINVAL, "the prompt has no tokens");
    if (n_prompt >= ctx) {
        return exo_error_set(err, EXO_ETOOLONG,
                             "the prompt has %zu tokens, the context holds %u (--ctx)", n_prompt,
                             ctx);
    }
    if (exo_grow((void **)&s->ids.ids, &s->ids.cap, (size_t)ctx + 1, sizeof *s->ids.ids) != 0) {
        return exo_error_set(err, EXO_ENOMEM, "out of memory for the answer");
    }
    o->request.n_prompt = n_prompt;
    o->request.prompt = s->ids.ids; /* where they stay from here on */
    st = exo_sampler_create(exo_model_hparams(s->model)->n_vocab, &s->sampler, err);
    if (st == EXO_OK) {
        st = exo_answer_create(exo_model_tokenizer(s->model), &o->request, &s->answer, err);
    }
    if (st == EXO_OK && o->request.hash_logits) {
        s->hash = exo_sha256_create();
        if (s->hash == NULL) st = exo_error_set(err, EXO_ENOMEM, "out of memory");
    }
    return st == EXO_OK ? generate(s, o, err) : st;
}

static json_t *ids_json(const int32_t *ids, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, json_integer(ids[i]));
    return list;
}

static double rate(double n, double seconds) { return seconds > 0 ? n / seconds : 0; }

static int print_result(const run_state *s, const run_options *o) {
    size_t n_prompt = o->request.n_prompt, n_answer = s->ids.n - n_prompt, n_text = s->text.n;
    json_t *text = json_stringn(exo_buf_str(&s->text), n_text);
    json_t *j = json_pack(
        "{s:o, s:o, s:o, s:s, s:I, s:{s:f, s:f, s:f, s:f, s:f, s:f}}", "prompt_ids",
        ids_json(s->ids.ids, n_prompt), "ids", ids_json(s->ids.ids + n_prompt, n_answer), "text",
        text, "finish_reason", s->finish == EXO_FINISH_STOP ? "stop" : "length", "seed",
        (json_int_t)o->request.sampling.seed, "timings", "load_s", s->load_s, "prompt_s",
        s->prompt_s, "prompt_tps", rate((double)n_prompt, s->prompt_s), "decode_s", s->decode_s,
        "decode_tps", rate((double)n_answer, s->decode_s), "first_token_s", s->first_token_s);
    if (s->reasoning.n > 0) {
        json_object_set_new(j, "reasoning",
                            json_stringn(exo_buf_str(&s->reasoning), s->reasoning.n));
    }
    const char *reason = exo_session_device_reason(s->session);
    json_object_set_new(j, "mapped_bytes",
                        json_integer((json_int_t)exo_session_mapped_bytes(s->session)));
    json_object_set_new(j, "device", json_string(exo_session_device(s->session)));
    json_object_set_new(j, "device_reason", reason[0] != '\0' ? json_string(reason) : json_null());
    json_object_set(j, "profile_changes", s->moves);
    if (s->hash != NULL) {
        uint8_t digest[EXO_SHA256_BYTES];
        char hex[EXO_SHA256_HEX_BYTES];
        exo_sha256_peek(s->hash, digest);
        exo_hex(digest, sizeof digest, hex);
        json_object_set_new(j, "logits_sha256", json_string(hex));
    }
    return exo_cli_print_json(j);
}

/* Texts of the options, before they are numbers. */
typedef struct {
    const char *n, *temp, *seed, *threads, *ctx, *chunk, *top_k, *top_p, *min_p, *typical, *repeat,
        *presence, *frequency, *kv;
    const char *stops[EXO_CLI_MAX_LIST];
    size_t n_stops;
} run_texts;

static bool numbers(const run_texts *t, run_options *o) {
    const exo_command *c = &exo_cmd_run;
    exo_sampling *s = &o->request.sampling;
    uint64_t seed = 0;
    bool ok = exo_cli_u32(c, "n", t->n, 1, 1u << 20, &o->request.max_tokens) &&
              exo_cli_float(c, "temp", t->temp, 0, 100, &s->temperature) &&
              exo_cli_u64(c, "seed", t->seed, &seed) &&
              exo_cli_u32(c, "threads", t->threads, 1, 1024, &o->threads) &&
              exo_cli_u32(c, "ctx", t->ctx, 2, 1u << 24, &o->ctx) &&
              exo_cli_u32(c, "chunk", t->chunk, 1, 2048, &o->chunk) &&
              exo_cli_u32(c, "top-k", t->top_k, 0, 1u << 24, &s->top_k) &&
              exo_cli_float(c, "top-p", t->top_p, 0, 1, &s->top_p) &&
              exo_cli_float(c, "min-p", t->min_p, 0, 1, &s->min_p) &&
              exo_cli_float(c, "typical", t->typical, 0, 1, &s->typical_p) &&
              exo_cli_float(c, "repeat-penalty", t->repeat, 0.01, 10, &s->repeat_penalty) &&
              exo_cli_float(c, "presence-penalty", t->presence, -2, 2, &s->presence_penalty) &&
              exo_cli_float(c, "frequency-penalty", t->frequency, -2, 2, &s->frequency_penalty);
    if (!ok) return false;
    while (seed == 0) {
        if (RAND_bytes((unsigned char *)&seed, sizeof seed) != 1) seed = exo_now_ns();
        seed &= INT64_MAX; /* JSON shows it */
    }
    s->seed = seed;
    if (t->n_stops > EXO_MAX_STOPS) {
        exo_cli_usage(c, "--stop is given more than %d times", EXO_MAX_STOPS);
        return false;
    }
    for (size_t i = 0; i < t->n_stops; i++) {
        if (t->stops[i][0] == '\0') {
            exo_cli_usage(c, "--stop needs a text");
            return false;
        }
        o->request.stops[i] = (char *)t->stops[i];
    }
    o->request.n_stops = (uint32_t)t->n_stops;
    return true;
}

static int run(int argc, char **argv) {
    run_options o = {.request.sampling.temperature = 0.8f};
    run_texts t = {0};
    const exo_option options[] = {{.name = "m", .value = &o.model},
                                  {.name = "p", .value = &o.prompt},
                                  {.name = "n", .value = &t.n},
                                  {.name = "temp", .value = &t.temp},
                                  {.name = "seed", .value = &t.seed},
                                  {.name = "raw", .seen = &o.raw},
                                  {.name = "json", .seen = &o.json},
                                  {.name = "device", .value = &o.device},
                                  {.name = "threads", .value = &t.threads},
                                  {.name = "pin", .seen = &o.pin},
                                  {.name = "numa", .seen = &o.numa},
                                  {.name = "ctx", .value = &t.ctx},
                                  {.name = "chunk", .value = &t.chunk},
                                  {.name = "kv", .value = &t.kv},
                                  {.name = "kv-f16", .seen = &o.kv_f16},
                                  {.name = "top-k", .value = &t.top_k},
                                  {.name = "top-p", .value = &t.top_p},
                                  {.name = "min-p", .value = &t.min_p},
                                  {.name = "typical", .value = &t.typical},
                                  {.name = "repeat-penalty", .value = &t.repeat},
                                  {.name = "presence-penalty", .value = &t.presence},
                                  {.name = "frequency-penalty", .value = &t.frequency},
                                  {.name = "stop", .list = t.stops, .n_list = &t.n_stops},
                                  {.name = "ignore-eos", .seen = &o.request.ignore_end},
                                  {.name = "logits-hash", .seen = &o.request.hash_logits},
                                  {0}};
    int rc = exo_cli_parse(&exo_cmd_run, argc, argv, options, NULL, 0);
    if (rc != EXO_EXIT_OK) return rc;
    if (o.model == NULL || o.prompt == NULL) {
        return exo_cli_usage(&exo_cmd_run, "-m MODEL and -p TEXT are needed");
    }
    if (!exo_cli_device(&exo_cmd_run, o.device) || !numbers(&t, &o) ||
        !exo_cli_kv(&exo_cmd_run, t.kv, &o.kv_f16, &o.kv_q8_0) || !exo_cli_place(o.pin, o.numa)) {
        return EXO_EXIT_USAGE;
    }
    exo_error err = {0};
    run_state s = {.moves = json_array()};
    exo_status st = answer(&s, &o, &err);
    if (!o.json && s.text.n > 0) putchar('\n');
    if (st != EXO_OK) {
        rc = exo_cli_fail(&err);
    } else if (o.json) {
        rc = print_result(&s, &o);
    }
    fflush(stdout);
    if (st == EXO_OK) exo_session_settle(s.session, SETTLE_MS);
    finish_run(&s);
    return rc;
}

const exo_command exo_cmd_run = {
    .name = "run",
    .summary = "ask a model one question on this machine",
    .help =
        "usage: exo run -m MODEL -p TEXT [OPTIONS]\n\n"
        "  -m MODEL           a GGUF file, a model id, or tiny (built in)\n"
        "  -p TEXT            the question, put into the model's chat template\n"
        "  --raw              no chat template: the model goes on with the text\n"
        "  -n N               at most N tokens (default: to the end of the context)\n"
        "  --temp T           temperature (default 0.8); 0 = always the likeliest token\n"
        "  --seed S           the same seed gives the same answer\n"
        "  --top-k K --top-p P --min-p P --typical P\n"
        "  --repeat-penalty R --presence-penalty P --frequency-penalty F\n"
        "  --stop TEXT        end the answer before this text; may be given 16 times\n"
        "  --ignore-eos       go on past end-of-turn tokens\n"
        "  --json             prompt_ids, ids, text, reasoning (where there is some),\n"
        "                     finish_reason, seed, timings, and which device computed\n"
        "  --logits-hash      with --json: SHA-256 over the bits of all logits used\n"
        "  --device D         default cpu:0; vulkan:0 is the first GPU (see exo devices).  Where\n"
        "                     a GPU cannot be used the CPU computes, and says why\n"
        "  --threads N        default: all cores\n"
        "  --pin              bind each thread but the first to a core of its own\n"
        "  --numa             place threads and weights on all memory nodes\n"
        "  --ctx N            context in tokens (default: the model's, at most 8192)\n"
        "  --chunk N          prompt tokens per step\n"
        "  --kv TYPE          keys and values in f32 (default), f16 or q8_0\n\n"
        "  exo run -m tiny -p \"What is exo?\" --temp 0\n",
    .run = run,
};
