/* models_test.c - which ids a node opens, and that an id is never a path. */
#define _DEFAULT_SOURCE
#include "node/node_impl.h"

#include "base/mem.h"
#include "model/synth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* root/one/small.gguf   found by EXO_MODELS_DIRS
 * root/data/models/own.gguf   found in the data directory
 * root/given.gguf       named by -m */
static char root[] = "/tmp/exo-test-XXXXXX";

static const char *in_root(const char *name) {
    static char paths[8][128];
    static unsigned turn;
    char *p = paths[turn++ % 8];
    snprintf(p, sizeof paths[0], "%s/%s", root, name);
    return p;
}

static const char *const folders[] = {"one", "data", "data/models"};
static const char *const files[] = {"one/small.gguf", "data/models/own.gguf", "given.gguf"};

static exo_models *open_models(void) {
    const char *given[] = {in_root("given.gguf"), in_root("given.gguf")};
    exo_models *m;
    exo_error err = {0};
    if (exo_models_create(in_root("data"), given, 2, &m, &err) != EXO_OK) {
        fail_msg("%s", err.message);
    }
    return m;
}

static void ids_are_found_and_opened_once(void **state) {
    (void)state;
    static const char *const ids[] = {"small", "own", "given"};
    exo_models *m = open_models();
    for (size_t i = 0; i < 3; i++) {
        exo_model *a, *b;
        exo_error err = {0};
        if (exo_models_get(m, ids[i], &a, &err) != EXO_OK) fail_msg("%s", err.message);
        assert_int_equal(exo_models_get(m, ids[i], &b, &err), EXO_OK);
        assert_ptr_equal(a, b);
        assert_string_equal(exo_model_id(a), ids[i]);
        exo_model_unref(a);
        exo_model_unref(b);
    }
    exo_models_destroy(m);
}

static void the_list_names_each_once_given_first(void **state) {
    (void)state;
    exo_models *m = open_models();
    json_t *list = exo_models_list(m);
    size_t i, n_own = 0, n_small = 0;
    json_t *item;
    const char *first = json_string_value(json_object_get(json_array_get(list, 0), "id"));
    assert_string_equal(first, "given");
    json_array_foreach(list, i, item) {
        const char *id = json_string_value(json_object_get(item, "id"));
        n_own += strcmp(id, "own") == 0;
        n_small += strcmp(id, "small") == 0;
    }
    assert_int_equal(n_own, 1);
    assert_int_equal(n_small, 1);
    json_decref(list);
    exo_models_destroy(m);
}

static void an_id_is_never_a_path(void **state) {
    (void)state;
    static const char *const bad[] = {"",           "../data/models/own", "one/small", "..",
                                      "small.gguf", "./small.gguf",       ".gguf",     "a..b"};
    exo_models *m = open_models();
    exo_model *model;
    exo_error err;
    assert_int_equal(chdir(in_root("one")), 0); /* where small.gguf would be a path */
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (exo_models_get(m, bad[i], &model, &err) != EXO_ENOTFOUND) fail_msg("%s", bad[i]);
        assert_null(model);
    }
    assert_int_equal(exo_models_get(m, in_root("given.gguf"), &model, &err), EXO_ENOTFOUND);
    char many[400];
    memset(many, 'x', sizeof many - 1);
    many[sizeof many - 1] = '\0';
    assert_int_equal(exo_models_get(m, many, &model, &err), EXO_ENOTFOUND);
    assert_int_equal(exo_models_get(m, "unheard-of", &model, &err), EXO_ENOTFOUND);
    assert_non_null(strstr(err.message, "unheard-of"));
    assert_int_equal(chdir("/"), 0);
    exo_models_destroy(m);
}

static void a_bad_file_is_named(void **state) {
    (void)state;
    const char *missing[] = {in_root("missing.gguf")};
    exo_models *m;
    exo_error err;
    assert_int_equal(exo_models_create(in_root("data"), missing, 1, &m, &err), EXO_ENOTFOUND);
    assert_null(m);
    assert_non_null(strstr(err.message, "missing.gguf"));
    m = open_models();
    FILE *f = fopen(in_root("one/broken.gguf"), "w");
    fputs("no model at all", f);
    fclose(f);
    exo_model *model;
    assert_int_equal(exo_models_get(m, "broken", &model, &err), EXO_EFORMAT);
    assert_non_null(strstr(err.message, "broken.gguf"));
    unlink(in_root("one/broken.gguf"));
    exo_models_destroy(m);
}

/* The node's own allocations; those of opening a file are model_test.c's. */
static void failed_allocations_leave_nothing(void **state) {
    (void)state;
    bool failed = true;
    for (uint64_t k = 1; failed && k < 8; k++) {
        const char *given[] = {in_root("given.gguf")};
        exo_models *m;
        exo_mem_fail_at(k);
        exo_status st = exo_models_create(in_root("data"), given, 1, &m, NULL);
        failed = exo_mem_failed() != 0;
        exo_mem_fail_at(0);
        assert_int_equal(st, failed ? EXO_ENOMEM : EXO_OK);
        exo_models_destroy(m);
    }
}

static int make_folders(void **state) {
    (void)state;
    if (mkdtemp(root) == NULL) return 1;
    for (size_t i = 0; i < 3; i++) {
        if (mkdir(in_root(folders[i]), 0700) != 0) return 1;
    }
    for (size_t i = 0; i < 3; i++) {
        exo_synth_desc d = {.shape = "test-256", .type = "q8_0", .seed = i, .n_layers = 1};
        if (exo_synth_write(&d, in_root(files[i]), NULL, NULL, NULL) != EXO_OK) return 1;
    }
    return setenv("EXO_MODELS_DIRS", in_root("one"), 1);
}

static int remove_folders(void **state) {
    (void)state;
    for (size_t i = 3; i-- > 0;) unlink(in_root(files[i]));
    for (size_t i = 3; i-- > 0;) rmdir(in_root(folders[i]));
    return rmdir(root);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_found_and_opened_once),
        cmocka_unit_test(the_list_names_each_once_given_first),
        cmocka_unit_test(an_id_is_never_a_path),
        cmocka_unit_test(a_bad_file_is_named),
        cmocka_unit_test(failed_allocations_leave_nothing),
    };
    return cmocka_run_group_tests(tests, make_folders, remove_folders);
}
