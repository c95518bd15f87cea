/* fuzz_hub.c - any bytes as what a hub says: a reference, response head lines, a list of files.
 *
 * Input: a line with a reference, then the reply.  What is chosen must be safe to create below a
 * folder.  The reply's lines are also read as header fields. */
#include "fuzz/target.h"
#include "node/hub.h"

#ifdef EXO_HAVE_CURL
#include "node/download_impl.h"
#endif

#include <stdlib.h>
#include <string.h>

static void check_name(const char *path) {
    const char *name = exo_hub_base_name(path);
    if (name[0] == '\0' || name[0] == '.' || strchr(name, '/') != NULL) abort();
    if (path[0] == '/' || strstr(path, "/../") != NULL) abort();
}

static void choose(const exo_hub_ref *ref, const char *reply, size_t n) {
    exo_hub_tree t = {0};
    exo_hub_choice c = {0};
    exo_error err = {0};
    if (exo_hub_tree_parse(reply, n, &t, &err) == EXO_OK) {
        for (size_t i = 0; i < t.n; i++) check_name(t.files[i].path);
        if (exo_hub_choose(&t, ref, &c, &err) == EXO_OK) {
            uint64_t sum = 0;
            if (c.n == 0 || c.id[0] == '\0') abort();
            for (size_t i = 0; i < c.n; i++) sum += c.files[i]->bytes;
            if (sum != c.bytes) abort();
        } else if (err.message[0] == '\0' || c.files != NULL) {
            abort();
        }
    } else if (err.message[0] == '\0') {
        abort();
    }
    exo_hub_choice_finish(&c);
    exo_hub_tree_finish(&t);
    char commit[EXO_HUB_COMMIT_BYTES];
    if (exo_hub_commit_parse(reply, n, commit, &err) == EXO_OK) check_name(commit);
}

#ifdef EXO_HAVE_CURL
static void read_head(const char *s, size_t n) {
    exo_http_head h;
    exo_http_head_init(&h);
    while (n > 0) {
        const char *end = memchr(s, '\n', n);
        size_t line = end != NULL ? (size_t)(end - s) + 1 : n;
        exo_http_head_line(&h, s, line);
        s += line;
        n -= line;
    }
    if (h.status < 0 || h.status > 999 || strlen(h.problem) >= sizeof h.problem) abort();
}
#endif

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    char text[4096];
    const uint8_t *end = n > 0 ? memchr(bytes, '\n', n) : NULL;
    size_t line = end != NULL ? (size_t)(end - bytes) : n;
    if (line >= sizeof text) return 0;
    memcpy(text, bytes, line);
    text[line] = '\0';
    const char *reply = (const char *)bytes + line + (end != NULL);
    size_t n_reply = n - line - (end != NULL);
    exo_hub_ref ref;
    exo_error err = {0};
    if (exo_hub_ref_parse(text, &ref, &err) == EXO_OK) {
        if (ref.file[0] != '\0') check_name(ref.file);
        if (ref.repo[0] != '\0') choose(&ref, reply, n_reply);
    } else if (err.message[0] == '\0') {
        abort();
    }
#ifdef EXO_HAVE_CURL
    read_head(reply, n_reply);
#endif
    return 0;
}
