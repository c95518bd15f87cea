/* fuzz_jinja.c - any bytes as a chat template, compiled and rendered; with libFuzzer.
 *
 * The input is a template; what follows a record separator (byte 0x1E) is read as JSON
 * variables, else a fixed conversation is used.  A render must end with UTF-8 text or with a
 * message, and a second one must do the same: the compiled template is read-only. */
#include "fuzz/target.h"
#include "model/template.h"

#include <string.h>

#define SEPARATOR 0x1E
#define MAX_STEPS 50000 /* keeps one input within milliseconds */

static const char conversation[] =
    "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"add_generation_prompt\": true,"
    " \"messages\": [{\"role\": \"system\", \"content\": \" Be k\\u00efnd.\\n\"},"
    " {\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": \"assistant\", \"content\": null,"
    " \"tool_calls\": [{\"id\": \"abcdefghi\", \"type\": \"function\", \"function\":"
    " {\"name\": \"f\", \"arguments\": {\"x\": 1.5, \"y\": [true, null, \"z\"]}}}]},"
    " {\"role\": \"tool\", \"content\": \"{}\", \"tool_call_id\": \"abcdefghi\"}],"
    " \"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"description\": \"d\","
    " \"parameters\": {\"type\": \"object\", \"properties\": {\"x\": {\"type\": \"number\"}},"
    " \"required\": [\"x\"]}}}]}";

static bool is_utf8(const exo_buf *text) {
    json_t *s = json_stringn(exo_buf_str(text), text->n); /* NULL for what is not UTF-8 */
    json_decref(s);
    return s != NULL;
}

static void render_twice(const exo_template *t, json_t *vars) {
    exo_template_desc desc = {.now_unix = 1767312000, .max_steps = MAX_STEPS};
    exo_buf first = {0}, second = {0};
    exo_error err = {0};
    exo_status status = exo_template_render(t, vars, &desc, &first, &err);
    CHECK(status == EXO_OK ? is_utf8(&first) : first.n == 0 && err.status == status);
    CHECK(exo_template_render(t, vars, &desc, &second, NULL) == status);
    CHECK(first.n == second.n);
    CHECK(memcmp(exo_buf_str(&first), exo_buf_str(&second), first.n) == 0);
    exo_buf_finish(&first);
    exo_buf_finish(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    const uint8_t *cut = n > 0 ? memchr(bytes, SEPARATOR, n) : NULL;
    size_t n_template = cut != NULL ? (size_t)(cut - bytes) : n;
    exo_template *t;
    exo_error err = {0};
    exo_status status = exo_template_compile((const char *)bytes, n_template, &t, &err);
    CHECK((status == EXO_OK) == (t != NULL));
    CHECK(status == EXO_OK || err.message[0] != '\0');
    if (t == NULL) return 0;
    json_t *vars = cut != NULL
                       ? json_loadb((const char *)cut + 1, n - n_template - 1, JSON_ALLOW_NUL, NULL)
                       : json_loads(conversation, 0, NULL);
    if (vars != NULL) render_twice(t, vars);
    json_decref(vars);
    exo_template_destroy(t);
    return 0;
}
