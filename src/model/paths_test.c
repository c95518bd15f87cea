/* paths_test.c - ids and part numbers from file names. */
#include "model/paths.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void check_id(const char *path, const char *want) {
    size_t n;
    const char *id = exo_path_id(path, &n);
    assert_int_equal(n, strlen(want));
    assert_memory_equal(id, want, n);
}

static void ids_lose_folder_suffix_and_part(void **ud) {
    (void)ud;
    check_id("/models/llama-3.2-1b.gguf", "llama-3.2-1b");
    check_id("llama-3.2-1b.gguf", "llama-3.2-1b");
    check_id("a/big-00002-of-00003.gguf", "big");
    check_id("tiny", "tiny");
    check_id("a.gguf/b", "b");
    check_id(".gguf", ".gguf");
    check_id("-00001-of-00002.gguf", "-00001-of-00002");
    check_id("x-00003-of-00002.gguf", "x-00003-of-00002"); /* no such part */
}

static void part_names_are_recognised(void **ud) {
    (void)ud;
    static const char *const plain[] = {
        "m.gguf",
        "m-00001-of-00002",
        "m-0001-of-00002.gguf",
        "m-00001-of-0002.gguf",
        "m-00000-of-00002.gguf",
        "m-00003-of-00002.gguf",
        "m_00001-of-00002.gguf",
        "m-00001_of-00002.gguf",
        "m-0000a-of-00002.gguf",
        "",
    };
    exo_split_name s;
    assert_true(exo_path_split("d/m-00002-of-00012.gguf", &s));
    assert_int_equal(s.no, 2);
    assert_int_equal(s.count, 12);
    assert_int_equal(s.stem_n, 3);
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        assert_false(exo_path_split(plain[i], &s));
        assert_int_equal(s.count, 0);
    }
}

static void tails_are_bounded(void **ud) {
    (void)ud;
    char path[301];
    memset(path, 'x', 300);
    path[300] = '\0';
    assert_int_equal(strlen(exo_path_tail(path)), 100);
    assert_string_equal(exo_path_tail("short"), "short");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_lose_folder_suffix_and_part),
        cmocka_unit_test(part_names_are_recognised),
        cmocka_unit_test(tails_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
