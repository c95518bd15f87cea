/* target_node.h - a node with the built-in model, for targets that parse requests to it. */
#ifndef EXO_TESTS_FUZZ_TARGET_NODE_H
#define EXO_TESTS_FUZZ_TARGET_NODE_H

#include "fuzz/target.h"
#include "node/node.h"

#include <unistd.h>

/* Made once; never stopped, like everything a fuzz target keeps. */
static inline exo_node *node(void) {
    static const char *const models[] = {EXO_SOURCE_DIR "/models/exo-tiny.gguf"};
    static exo_node *made;
    if (made != NULL) return made;
    char dir[] = "/tmp/exo-fuzz-XXXXXX", key[64];
    CHECK(mkdtemp(dir) != NULL);
    exo_node_desc d = {.data_dir = dir, .n_threads = 1, .models = models, .n_models = 1};
    CHECK(exo_node_start(&d, &made, NULL) == EXO_OK);
    snprintf(key, sizeof key, "%s/node.key", dir); /* in memory by now */
    unlink(key);
    rmdir(dir);
    return made;
}

#endif
