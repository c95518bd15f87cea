/* openai.c - the handlers of OpenAI's routes; see openai.h. */
#include "api/openai.h"

#include "base/clock.h"

#include <string.h>

static void answer(exo_call *c, exo_fields *f, exo_openai_wish *wish) {
    exo_node *n = exo_calls_node(exo_call_all(c));
    exo_request request = {0};
    exo_model *model = NULL;
    exo_openai_parse(f, n, wish, &request, &model);
    if (!exo_fields_ok(f)) {
        const char *code = f->err.status == EXO_ENOTFOUND ? "model_not_found" : NULL;
        exo_call_reply_error(c, f->err.status, f->err.message, f->param, code);
        goto done;
    }
    exo_openai_answer *a = exo_openai_answer_create(c, wish, &request, model);
    if (a == NULL) {
        exo_call_reply_error(c, EXO_ENOMEM, "out of memory for an answer", NULL, NULL);
        goto done;
    }
    if (wish->stream) exo_call_will_stream(c);
    exo_call_hold(c);
    exo_error err = {0};
    uint64_t handle;
    exo_status st =
        exo_node_submit(n, wish->model_id, &request, exo_openai_on_event, a, &handle, &err);
    if (st == EXO_OK) {
        exo_call_set_handle(c, handle);
    } else {
        exo_call_reply_error(c, st, err.message, NULL, NULL);
        exo_call_release(c);
        exo_openai_answer_destroy(a);
    }
done:
    exo_request_finish(&request);
    exo_model_unref(model);
}

static void parse_and_answer(exo_call *c, bool chat) {
    const exo_buf *body = exo_call_body(c);
    exo_fields f = {0};
    exo_openai_wish wish = {.chat = chat};
    json_t *j = NULL;
    if (exo_fields_parse(exo_buf_str(body), body->n, &j, &f.err) != EXO_OK) {
        exo_call_reply_error(c, f.err.status, f.err.message, NULL, NULL);
        return;
    }
    f.object = j;
    answer(c, &f, &wish);
    json_decref(j);
}

void exo_openai_chat(exo_call *c) { parse_and_answer(c, true); }

void exo_openai_completions(exo_call *c) { parse_and_answer(c, false); }

static json_t *model_json(const char *id) {
    return json_pack("{s:s, s:s, s:I, s:s}", "id", id, "object", "model", "created",
                     (json_int_t)exo_unix_time(), "owned_by", "exo");
}

void exo_openai_models(exo_call *c) {
    json_t *known = exo_node_models(exo_calls_node(exo_call_all(c)));
    json_t *data = json_array();
    size_t i;
    json_t *m;
    json_array_foreach(known, i, m) {
        json_array_append_new(data, model_json(json_string_value(json_object_get(m, "id"))));
    }
    json_decref(known);
    exo_call_reply_json(c, MHD_HTTP_OK, json_pack("{s:s, s:o}", "object", "list", "data", data));
}

void exo_openai_model(exo_call *c, const char *id) {
    json_t *known = exo_node_models(exo_calls_node(exo_call_all(c)));
    bool found = false;
    size_t i;
    json_t *m;
    json_array_foreach(known, i, m) {
        found |= strcmp(json_string_value(json_object_get(m, "id")), id) == 0;
    }
    json_decref(known);
    if (found) {
        exo_call_reply_json(c, MHD_HTTP_OK, model_json(id));
        return;
    }
    exo_error err;
    exo_error_set(&err, EXO_ENOTFOUND, "model \"%.100s\" not found; GET /v1/models lists them", id);
    exo_call_reply_error(c, EXO_ENOTFOUND, err.message, "model", "model_not_found");
}
