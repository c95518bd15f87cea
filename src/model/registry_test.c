/* registry_test.c - ids to files: the search order, split files, and what is not found. */
#define _DEFAULT_SOURCE /* mkdtemp, setenv */
#include "model/model.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char root[64];

static const char *at(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

static const char *const folders[] = {"a", "b", "data", "data/models", "a/folder.gguf"};
static const char *const files[] = {
    "a/one.gguf",
    "a/big-00001-of-00002.gguf",
    "a/big-00002-of-00002.gguf",
    "a/notes.txt",
    "a/.hidden.gguf",
    "b/one.gguf",
    "b/two.gguf",
    "data/models/three.gguf",
    "data/models/two.gguf",
};
#define COUNT(array) (sizeof(array) / sizeof *(array))

static int make_tree(void **ud) {
    (void)ud;
    char dirs[256];
    snprintf(root, sizeof root, "/tmp/exo-registry-test-XXXXXX");
    if (mkdtemp(root) == NULL) return -1;
    for (size_t i = 0; i < COUNT(folders); i++) {
        if (mkdir(at(folders[i]), 0700) != 0) return -1;
    }
    for (size_t i = 0; i < COUNT(files); i++) {
        FILE *f = fopen(at(files[i]), "w");
        if (f == NULL || fclose(f) != 0) return -1;
    }
    snprintf(dirs, sizeof dirs, "%s/a::%s/b:%s/missing", root, root, root);
    return setenv("EXO_MODELS_DIRS", dirs, 1);
}

static int remove_tree(void **ud) {
    (void)ud;
    for (size_t i = COUNT(files); i-- > 0;) unlink(at(files[i]));
    for (size_t i = COUNT(folders); i-- > 0;) rmdir(at(folders[i]));
    return rmdir(root);
}

static void resolves_to(const char *name, const char *want) {
    char path[256], data[128];
    exo_error err = {0};
    snprintf(data, sizeof data, "%s/data", root);
    if (exo_models_resolve(name, data, path, sizeof path, &err) != EXO_OK) {
        fail_msg("%s", err.message);
    }
    assert_string_equal(path, at(want));
}

static void fails(const char *name, size_t cap, exo_status want, const char *message_part) {
    char path[256] = "x", data[128];
    exo_error err = {0};
    snprintf(data, sizeof data, "%s/data", root);
    assert_int_equal(exo_models_resolve(name, data, path, cap, &err), want);
    if (strstr(err.message, message_part) == NULL) fail_msg("\"%s\"", err.message);
    assert_string_equal(path, "");
}

static void the_first_directory_wins(void **ud) {
    (void)ud;
    resolves_to("one", "a/one.gguf");
    resolves_to("two", "b/two.gguf");
    resolves_to("three", "data/models/three.gguf");
    resolves_to("big", "a/big-00001-of-00002.gguf");
}

static void paths_are_taken_as_they_are(void **ud) {
    (void)ud;
    char path[256], name[256];
    snprintf(name, sizeof name, "%s", at("b/one.gguf"));
    assert_int_equal(exo_models_resolve(name, NULL, path, sizeof path, NULL), EXO_OK);
    assert_string_equal(path, name);
    fails(at("b/none.gguf"), 256, EXO_ENOTFOUND, "b/none.gguf not found");
    fails("none.gguf", 256, EXO_ENOTFOUND, "model file none.gguf not found");
    fails(at("a"), 256, EXO_ENOTFOUND, "not found"); /* a directory */
}

static void what_is_not_there_is_said_with_where(void **ud) {
    (void)ud;
    fails("four", 256, EXO_ENOTFOUND, "model \"four\" not found in /tmp/exo-registry-test-");
    fails("four", 256, EXO_ENOTFOUND, "/data/models");
    fails(".hidden", 256, EXO_ENOTFOUND, "not found");
    fails("folder", 256, EXO_ENOTFOUND, "not found");
    fails("..", 256, EXO_EINVAL, "not a model id");
    fails("", 256, EXO_EINVAL, "not a model id");
    fails("one", 8, EXO_EINVAL, "too long");
}

typedef struct {
    char ids[256];
    int n;
} listing;

static void note(void *ud, const char *id, const char *path) {
    listing *l = ud;
    size_t n = strlen(l->ids);
    if (strcmp(id, "tiny") == 0) {
        assert_string_equal(path, "tiny");
        return;
    }
    assert_int_equal(access(path, R_OK), 0);
    snprintf(l->ids + n, sizeof l->ids - n, "%s ", id);
    l->n++;
}

static void each_model_is_listed_once(void **ud) {
    (void)ud;
    char data[128];
    listing l = {0};
    snprintf(data, sizeof data, "%s/data", root);
    exo_models_each(data, note, &l);
    assert_string_equal(l.ids, "big one three two ");
    l = (listing){0};
    exo_models_each(NULL, note, &l);
    assert_string_equal(l.ids, "big one two ");
}

static void failed_allocations_only_shorten_the_list(void **ud) {
    (void)ud;
    for (uint64_t k = 1;; k++) {
        listing l = {0};
        exo_mem_fail_at(k);
        exo_models_each(NULL, note, &l);
        int failed = exo_mem_failed();
        exo_mem_fail_at(0);
        assert_in_range(l.n, 0, 3);
        if (!failed) break;
    }
}

static void the_built_in_model_has_bytes_or_is_absent(void **ud) {
    (void)ud;
    size_t n;
    const char *bytes = exo_builtin_tiny(&n);
    char path[64];
    exo_status st = exo_models_resolve("tiny", NULL, path, sizeof path, NULL);
    if (n == 0) {
        assert_null(bytes);
        assert_int_equal(st, EXO_ENOTFOUND);
        return;
    }
    assert_memory_equal(bytes, "GGUF", 4);
    assert_int_equal(st, EXO_OK);
    assert_string_equal(path, "tiny");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_directory_wins),
        cmocka_unit_test(paths_are_taken_as_they_are),
        cmocka_unit_test(what_is_not_there_is_said_with_where),
        cmocka_unit_test(each_model_is_listed_once),
        cmocka_unit_test(failed_allocations_only_shorten_the_list),
        cmocka_unit_test(the_built_in_model_has_bytes_or_is_absent),
    };
    return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
