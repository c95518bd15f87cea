/* log_test.c - what reaches stderr: levels, whole lines, long ones cut.  stderr is a file here. */
#define _POSIX_C_SOURCE 200809L
#include "base/log.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static int saved_stderr = -1;

/* From here until read_log(), stderr goes into a file. */
static FILE *catch_log(void) {
    FILE *f = tmpfile();
    assert_non_null(f);
    saved_stderr = dup(STDERR_FILENO);
    dup2(fileno(f), STDERR_FILENO);
    return f;
}

static size_t read_log(FILE *f, char *out, size_t cap) {
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    rewind(f);
    size_t n = fread(out, 1, cap - 1, f);
    out[n] = '\0';
    fclose(f);
    return n;
}

static void write_every_level(void) {
    exo_error_log("e%d", 1);
    exo_warn("w%d", 2);
    exo_info("i%d", 3);
    exo_debug("d%d", 4);
}

static void levels_below_the_threshold_are_silent(void **state) {
    (void)state;
    static const char *const texts[] = {"e1", "w2", "i3", "d4"};
    for (int level = EXO_LOG_ERROR; level <= EXO_LOG_DEBUG; level++) {
        char text[1024];
        exo_log_set((exo_log_level)level);
        FILE *f = catch_log();
        write_every_level();
        read_log(f, text, sizeof text);
        for (int i = 0; i < 4; i++) assert_int_equal(strstr(text, texts[i]) != NULL, i <= level);
        assert_int_equal(exo_log_on(EXO_LOG_DEBUG), level == EXO_LOG_DEBUG);
    }
}

static void the_environment_sets_the_level(void **state) {
    (void)state;
    char text[1024];
    exo_log_set(EXO_LOG_WARN);
    setenv("EXO_LOG", "debug", 1);
    exo_log_init();
    assert_true(exo_log_on(EXO_LOG_DEBUG));
    setenv("EXO_LOG", "", 1);
    exo_log_init();
    assert_true(exo_log_on(EXO_LOG_DEBUG));
    setenv("EXO_LOG", "loud", 1);
    FILE *f = catch_log();
    exo_log_init();
    read_log(f, text, sizeof text);
    assert_non_null(strstr(text, "EXO_LOG: unknown level (use error, warn, info or debug)"));
    assert_true(exo_log_on(EXO_LOG_DEBUG));
    unsetenv("EXO_LOG");
}

/* "12:34:56.789 info  text\n" */
static void a_line_has_time_level_and_text(void **state) {
    (void)state;
    char text[1024];
    int h, m, s, ms;
    char level[16], word[16];
    exo_log_set(EXO_LOG_INFO);
    FILE *f = catch_log();
    exo_info("joined");
    size_t n = read_log(f, text, sizeof text);
    assert_int_equal(sscanf(text, "%2d:%2d:%2d.%3d %15s %15s", &h, &m, &s, &ms, level, word), 6);
    assert_string_equal(level, "info");
    assert_string_equal(word, "joined");
    assert_int_equal(text[n - 1], '\n');
}

static void a_long_line_is_cut_and_still_ends(void **state) {
    (void)state;
    char many[3000], text[8192];
    memset(many, 'x', sizeof many - 1);
    many[sizeof many - 1] = '\0';
    exo_log_set(EXO_LOG_WARN);
    for (int cut = 0; cut < 40; cut++) { /* lengths around the line's own limit */
        FILE *f = catch_log();
        exo_warn("%.*s", 1040 - cut, many);
        exo_warn("next");
        size_t n = read_log(f, text, sizeof text);
        const char *end = strchr(text, '\n');
        assert_non_null(end);
        assert_true(end - text <= 1023);
        assert_int_equal(end[-1], 'x');
        assert_non_null(strstr(end, " next\n"));
        assert_int_equal(text[n - 1], '\n');
    }
}

static void *write_lines(void *arg) {
    for (int i = 0; i < 200; i++) exo_warn("%s", (const char *)arg);
    return NULL;
}

static void lines_of_several_threads_stay_whole(void **state) {
    (void)state;
    static char a[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                b[] = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    static char text[100000];
    pthread_t other;
    exo_log_set(EXO_LOG_WARN);
    FILE *f = catch_log();
    int rc = pthread_create(&other, NULL, write_lines, a);
    write_lines(b);
    if (rc == 0) pthread_join(other, NULL);
    read_log(f, text, sizeof text);
    assert_int_equal(rc, 0);
    int lines = 0;
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1, lines++) {
        const char *said = end - (sizeof a - 1);
        assert_int_equal(said - line, strlen("12:34:56.789 warn  "));
        assert_true(memcmp(said, a, sizeof a - 1) == 0 || memcmp(said, b, sizeof b - 1) == 0);
    }
    assert_int_equal(lines, 400);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_below_the_threshold_are_silent),
        cmocka_unit_test(the_environment_sets_the_level),
        cmocka_unit_test(a_line_has_time_level_and_text),
        cmocka_unit_test(a_long_line_is_cut_and_still_ends),
        cmocka_unit_test(lines_of_several_threads_stay_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
