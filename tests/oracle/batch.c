/* batch.c - many texts through the tokenizer, or many templates through the renderer, in one
 * process: what the differential tests in this folder talk to.
 *
 *   exo_batch tokenize MODEL   records: u8 flags, u32 n, n bytes of text
 *                              answers: i32 n_ids and that many i32, or -1, u32 n, the message
 *   exo_batch json             records: u32 n, a tokenizer.json; u32 n_rows; u32 n_texts and as
 * many records of tokenize.  answers: u8 1, u32 n, a message; or u8 0 and the answers of tokenize
 *   exo_batch template         records: u32 n, a template; u32 n, its variables as JSON
 *                              answers: u8 0, u32 n, the text; or u8 1, u32 n, the message
 *
 * Numbers are little-endian.  Ends at the end of the input; exit status 1 and a line on stderr if
 * the model cannot be used. */
#include "model/hf_impl.h"
#include "model/template.h"
#include "model/tokenizer.h"

#include "base/le.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define NOW_UNIX 1767312000 /* 2026-01-02 00:00 UTC: what strftime_now sees */

static void put_u32(uint32_t n) {
    uint8_t bytes[4];
    exo_put_u32(bytes, n);
    fwrite(bytes, 1, sizeof bytes, stdout);
}

/* False at the end of the input. */
static bool read_text(exo_buf *out) {
    uint8_t size[4];
    char chunk[4096];
    if (fread(size, 1, sizeof size, stdin) != sizeof size) return false;
    exo_buf_clear(out);
    for (size_t left = exo_get_u32(size), n; left > 0; left -= n) {
        n = fread(chunk, 1, left < sizeof chunk ? left : sizeof chunk, stdin);
        if (n == 0) return false;
        exo_buf_append(out, chunk, n);
    }
    return exo_buf_ok(out);
}

static void put_text(const char *s, size_t n) {
    put_u32((uint32_t)n);
    fwrite(s, 1, n, stdout);
}

static void put_ids(const exo_tokenizer *t, const exo_buf *text, unsigned flags, exo_ids *ids) {
    exo_error err = {0};
    ids->n = 0;
    if (exo_tokenize(t, exo_buf_str(text), text->n, flags, ids, &err) != EXO_OK) {
        put_u32(UINT32_MAX);
        put_text(err.message, strlen(err.message));
    } else {
        put_u32((uint32_t)ids->n);
        for (size_t i = 0; i < ids->n; i++) put_u32((uint32_t)ids->ids[i]);
    }
}

static int tokenize_all(const char *path) {
    exo_error err = {0};
    exo_gguf *g = NULL;
    exo_tokenizer *t = NULL;
    exo_buf text = {0};
    exo_ids ids = {0};
    if (exo_gguf_open(path, &g, &err) != EXO_OK || exo_tokenizer_create(g, &t, &err) != EXO_OK) {
        fprintf(stderr, "%s\n", err.message);
        exo_gguf_close(g);
        return 1;
    }
    for (int flags; (flags = getchar()) != EOF && read_text(&text);) {
        put_ids(t, &text, (unsigned)flags, &ids);
        fflush(stdout);
    }
    exo_ids_finish(&ids);
    exo_buf_finish(&text);
    exo_tokenizer_destroy(t);
    exo_gguf_close(g);
    return 0;
}

/* What a folder with this tokenizer.json would have for a tokenizer. */
static exo_status tokenizer_of_json(const exo_buf *json, uint32_t n_rows, exo_tokenizer **out,
                                    exo_error *err) {
    exo_gguf_writer w = {0};
    exo_gguf *g = NULL;
    exo_buf head = {0};
    json_t *tokenizer = json_loadb(exo_buf_str(json), json->n, JSON_ALLOW_NUL, NULL);
    const exo_hf_texts texts = {.tokenizer = tokenizer};
    exo_status st = exo_hf_add_tokenizer(&texts, n_rows, &w, err);
    exo_gguf_writer_head(&w, &head);
    if (st == EXO_OK) st = exo_gguf_open_memory(head.data, head.n, &g, err);
    if (st == EXO_OK) st = exo_tokenizer_create(g, out, err);
    exo_gguf_close(g);
    exo_buf_finish(&head);
    exo_gguf_writer_finish(&w);
    json_decref(tokenizer);
    return st;
}

static bool read_u32(uint32_t *out) {
    uint8_t bytes[4];
    bool ok = fread(bytes, 1, sizeof bytes, stdin) == sizeof bytes;
    *out = ok ? exo_get_u32(bytes) : 0;
    return ok;
}

static int tokenize_json(void) {
    exo_buf json = {0}, text = {0};
    exo_ids ids = {0};
    uint32_t n_rows, n_texts;
    while (read_text(&json) && read_u32(&n_rows) && read_u32(&n_texts)) {
        exo_tokenizer *t = NULL;
        exo_error err = {0};
        bool ok = tokenizer_of_json(&json, n_rows, &t, &err) == EXO_OK;
        putchar(ok ? 0 : 1);
        if (!ok) put_text(err.message, strlen(err.message));
        for (uint32_t i = 0; i < n_texts; i++) {
            int flags = getchar();
            if (flags == EOF || !read_text(&text)) return 1;
            if (ok) put_ids(t, &text, (unsigned)flags, &ids);
        }
        fflush(stdout);
        exo_tokenizer_destroy(t);
    }
    exo_ids_finish(&ids);
    exo_buf_finish(&json);
    exo_buf_finish(&text);
    return 0;
}

static exo_status render(const exo_buf *source, const exo_buf *input, exo_buf *out,
                         exo_error *err) {
    exo_template *t = NULL;
    exo_template_desc desc = {.now_unix = NOW_UNIX};
    json_error_t je;
    json_t *vars = json_loadb(exo_buf_str(input), input->n, JSON_ALLOW_NUL, &je);
    exo_status st = exo_template_compile(exo_buf_str(source), source->n, &t, err);
    if (st == EXO_OK && vars == NULL) st = exo_error_set(err, EXO_EINVAL, "JSON: %s", je.text);
    if (st == EXO_OK) st = exo_template_render(t, vars, &desc, out, err);
    exo_template_destroy(t);
    json_decref(vars);
    return st;
}

static int render_all(void) {
    exo_buf source = {0}, input = {0}, out = {0};
    while (read_text(&source) && read_text(&input)) {
        exo_error err = {0};
        exo_buf_clear(&out);
        exo_status st = render(&source, &input, &out, &err);
        putchar(st == EXO_OK ? 0 : 1);
        if (st == EXO_OK) {
            put_text(exo_buf_str(&out), out.n);
        } else {
            put_text(err.message, strlen(err.message));
        }
        fflush(stdout);
    }
    exo_buf_finish(&source);
    exo_buf_finish(&input);
    exo_buf_finish(&out);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "tokenize") == 0) return tokenize_all(argv[2]);
    if (argc == 2 && strcmp(argv[1], "json") == 0) return tokenize_json();
    if (argc == 2 && strcmp(argv[1], "template") == 0) return render_all();
    fprintf(stderr, "usage: exo_batch tokenize MODEL | exo_batch json | exo_batch template\n");
    return 2;
}
