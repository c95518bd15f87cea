/* fuzz_body.c - the body of an HTTP request, from bytes to a request ready for a node.
 *
 * The first byte chooses the route: 'c' chat, anything else completions.  What is taken must be
 * within every limit of the engine and survive the way to another node, since stages refuse what
 * does not, and the whole instance with it; what is refused must be said in JSON. */
#define _DEFAULT_SOURCE
#include "api/openai.h"
#include "fuzz/target_node.h"

#include <string.h>

static void check_taken(const exo_request *r, const exo_model *m) {
    CHECK(r->n_prompt > 0 && r->n_prompt < exo_node_ctx(node(), m));
    CHECK(r->sampling.seed != 0 && r->id[0] != '\0');
    CHECK(exo_sampling_check(&r->sampling, NULL) == EXO_OK);
    CHECK(exo_request_check_vocab(r, exo_model_hparams(m)->n_vocab, NULL) == EXO_OK);
    json_t *j = exo_request_to_json(r);
    exo_request again;
    CHECK(j != NULL && exo_request_from_json(j, &again, NULL) == EXO_OK);
    CHECK(again.n_stops == r->n_stops && again.sampling.n_bias == r->sampling.n_bias);
    exo_request_finish(&again);
    json_decref(j);
}

static void check_refused(const exo_error *err, const char *param) {
    CHECK(err->message[0] != '\0');
    json_t *said = exo_error_json(err->status, err->message, param, NULL);
    CHECK(said != NULL);
    json_decref(said);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    if (n < 1) return 0;
    json_t *object;
    exo_fields f = {0};
    exo_openai_wish wish = {.chat = bytes[0] == 'c'};
    exo_request request = {0};
    exo_model *model = NULL;
    if (exo_fields_parse((const char *)bytes + 1, n - 1, &object, &f.err) != EXO_OK) {
        check_refused(&f.err, NULL);
        return 0;
    }
    f.object = object;
    exo_openai_parse(&f, node(), &wish, &request, &model);
    if (exo_fields_ok(&f)) {
        check_taken(&request, model);
    } else {
        check_refused(&f.err, f.param);
    }
    exo_request_finish(&request);
    exo_model_unref(model);
    json_decref(object);
    return 0;
}
