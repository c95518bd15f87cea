/* testing.h - what the API's tests share: a real node without links, in a folder of its own.
 *
 * The model is the demo model's file, so that the tests also run in builds that embed none; its
 * id is TEST_MODEL.  Include after cmocka.h, with _DEFAULT_SOURCE. */
#ifndef EXO_API_TESTING_H
#define EXO_API_TESTING_H

#include "base/mem.h"
#include "node/node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEST_MODEL     "exo-tiny"
#define TEST_MODEL_CTX 2048

typedef struct {
    char dir[32];
    exo_node *node;
} test_node;

static inline void test_node_start(test_node *t) {
    static const char *const models[] = {EXO_SOURCE_DIR "/models/" TEST_MODEL ".gguf"};
    exo_error err = {0};
    strcpy(t->dir, "/tmp/exo-api-XXXXXX");
    assert_non_null(mkdtemp(t->dir));
    exo_node_desc d = {.data_dir = t->dir, .n_threads = 1, .models = models, .n_models = 1};
    if (exo_node_start(&d, &t->node, &err) != EXO_OK) fail_msg("%s", err.message);
}

static inline void test_node_stop(test_node *t) {
    char key[64];
    exo_node_stop(t->node);
    snprintf(key, sizeof key, "%s/node.key", t->dir);
    unlink(key);
    rmdir(t->dir);
}

/* JSON with ' for ", which C reads better. */
static inline char *test_json(const char *text) {
    char *json = exo_strdup(text);
    assert_non_null(json);
    for (char *c = json; *c != '\0'; c++) {
        if (*c == '\'') *c = '"';
    }
    return json;
}

#endif
