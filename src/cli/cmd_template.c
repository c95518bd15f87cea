/* cmd_template.c - `exo template`: a conversation rendered by a chat template. */
#include "base/json.h"
#include "cli/cli.h"
#include "model/template.h"

#include <stdio.h>

#define MAX_INPUT_BYTES (64u << 20)

static exo_status render(const exo_template *t, exo_buf *out, exo_error *err) {
    exo_buf input = {0};
    json_t *vars = NULL;
    exo_status st = exo_cli_read_stdin(&input, MAX_INPUT_BYTES, err);
    if (st != EXO_OK) goto done;
    json_error_t je;
    vars = exo_json_load(exo_buf_str(&input), input.n, JSON_ALLOW_NUL, &je);
    if (vars == NULL || !json_is_object(vars)) {
        st = exo_error_set(err, EXO_EINVAL, "standard input is not a JSON object: %s (line %d)",
                           vars == NULL ? je.text : "another kind of value",
                           vars == NULL ? je.line : 1);
        goto done;
    }
    st = exo_template_render(t, vars, NULL, out, err);
done:
    json_decref(vars);
    exo_buf_finish(&input);
    return st;
}

static int run(int argc, char **argv) {
    const char *model = NULL, *file = NULL;
    const exo_option options[] = {
        {.name = "m", .value = &model}, {.name = "template", .value = &file}, {0}};
    int rc = exo_cli_parse(&exo_cmd_template, argc, argv, options, NULL, 0);
    if (rc != EXO_EXIT_OK) return rc;
    if ((model == NULL) == (file == NULL)) {
        return exo_cli_usage(&exo_cmd_template, "give either -m MODEL or --template FILE");
    }
    exo_error err = {0};
    exo_buf source = {0}, out = {0};
    exo_model *m = NULL;
    exo_template *own = NULL;
    const exo_template *t = NULL;
    exo_status st;
    if (file != NULL) {
        st = exo_cli_read_file(file, &source, MAX_INPUT_BYTES, &err);
        if (st == EXO_OK) st = exo_template_compile(exo_buf_str(&source), source.n, &own, &err);
        t = own;
    } else {
        st = exo_cli_open_model(model, &m, &err);
        t = m != NULL ? exo_model_template(m) : NULL;
        if (st == EXO_OK && t == NULL) {
            st = exo_error_set(&err, EXO_ENOTFOUND, "model %s has no chat template", model);
        }
    }
    if (st == EXO_OK) st = render(t, &out, &err);
    if (st == EXO_OK && fwrite(exo_buf_str(&out), 1, out.n, stdout) != out.n) {
        st = exo_error_set(&err, EXO_EIO, "cannot write the prompt");
    }
    if (st != EXO_OK) rc = exo_cli_fail(&err);
    exo_buf_finish(&source);
    exo_buf_finish(&out);
    exo_template_destroy(own);
    exo_model_unref(m);
    return rc;
}

const exo_command exo_cmd_template = {
    .name = "template",
    .summary = "render a conversation with a chat template",
    .help = "usage: exo template (-m MODEL | --template FILE) < conversation.json\n\n"
            "The members of the JSON object are the template's variables: messages, tools,\n"
            "add_generation_prompt, bos_token, eos_token...  Prints the prompt, nothing more.\n\n"
            "  echo '{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}],\n"
            "         \"add_generation_prompt\": true}' | exo template -m tiny\n",
    .run = run,
};
