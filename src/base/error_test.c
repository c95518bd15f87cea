/* error_test.c - a message is one line of valid UTF-8, whatever went into it. */
#include <exo/base.h>

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void set_fills_and_returns(void **state) {
    (void)state;
    exo_error err;
    assert_int_equal(exo_error_set(&err, EXO_EINVAL, "layer %d of %d", 7, 6), EXO_EINVAL);
    assert_int_equal(err.status, EXO_EINVAL);
    assert_string_equal(err.message, "layer 7 of 6");
    assert_int_equal(exo_error_set(NULL, EXO_EPEER, "nobody listens"), EXO_EPEER);
}

static void wrap_prefixes_and_keeps_the_status(void **state) {
    (void)state;
    exo_error err;
    exo_error_set(&err, EXO_EFORMAT, "type 99");
    assert_int_equal(exo_error_wrap(&err, EXO_EFORMAT, "tensor '%s'", "a"), EXO_EFORMAT);
    assert_string_equal(err.message, "tensor 'a': type 99");
    assert_int_equal(exo_error_wrap(&err, EXO_EIO, "file"), EXO_EIO);
    assert_int_equal(err.status, EXO_EIO);
    assert_string_equal(err.message, "file: tensor 'a': type 99");
    assert_int_equal(exo_error_wrap(NULL, EXO_ENOMEM, "nobody listens"), EXO_ENOMEM);
}

static void control_characters_become_spaces(void **state) {
    (void)state;
    exo_error err;
    exo_error_set(&err, EXO_EINVAL, "a\nb\r\tc\x1B[31md\x7F");
    assert_string_equal(err.message, "a b  c [31md ");
}

static void expect_message(const char *in, const char *out) {
    exo_error err;
    exo_error_set(&err, EXO_EINVAL, "%s", in);
    assert_string_equal(err.message, out);
}

static void bytes_that_are_not_utf8_are_replaced(void **state) {
    (void)state;
    expect_message("caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80", "caf\xC3\xA9 \xE2\x82\xAC "
                                                                "\xF0\x9F\x98\x80");
    expect_message("caf\xE9!", "caf?!");                    /* Latin-1 */
    expect_message("\x80\xBF", "??");                       /* continuation alone */
    expect_message("\xC0\xAF \xE0\x80\xAF", "?? ???");      /* overlong '/' */
    expect_message("\xED\xA0\x80", "???");                  /* a surrogate */
    expect_message("\xF4\x90\x80\x80 \xF8\x88", "???? ??"); /* beyond U+10FFFF */
    expect_message("end \xE2\x82", "end ??");               /* cut by its author */
}

/* A character that does not fit goes as a whole; one that just fits stays. */
static void long_text_is_cut_between_characters(void **state) {
    (void)state;
    static const char *const characters[] = {"x", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
    for (size_t c = 0; c < 4; c++) {
        size_t length = strlen(characters[c]);
        for (size_t lead = 0; lead < 8; lead++) {
            char in[600] = "";
            for (size_t i = 0; i < lead; i++) strcat(in, "-");
            while (strlen(in) < 500) strcat(in, characters[c]);
            exo_error err;
            exo_error_set(&err, EXO_EINVAL, "%s", in);
            size_t room = EXO_ERROR_BYTES - 1 - lead, fits = lead + room / length * length;
            assert_int_equal(strlen(err.message), fits);
            assert_memory_equal(err.message, in, fits);
        }
    }
}

static void wrapping_long_text_cuts_the_end(void **state) {
    (void)state;
    char many[600];
    exo_error err;
    memset(many, 'm', sizeof many - 1);
    many[sizeof many - 1] = '\0';
    exo_error_set(&err, EXO_EIO, "%s", many);
    exo_error_wrap(&err, EXO_EIO, "prefix");
    assert_int_equal(strlen(err.message), EXO_ERROR_BYTES - 1);
    assert_memory_equal(err.message, "prefix: mmm", 11);
    memset(many, 'p', sizeof many - 1);
    exo_error_wrap(&err, EXO_EIO, "%s", many);
    assert_int_equal(strlen(err.message), EXO_ERROR_BYTES - 1);
    assert_null(strchr(err.message, 'm'));
}

static void every_status_has_a_name(void **state) {
    (void)state;
    for (int a = EXO_OK; a >= EXO_EINTERNAL; a--) {
        const char *name = exo_status_name((exo_status)a);
        assert_string_not_equal(name, "unknown status");
        for (int b = EXO_OK; b > a; b--) {
            assert_string_not_equal(name, exo_status_name((exo_status)b));
        }
    }
    assert_string_equal(exo_status_name((exo_status)-99), "unknown status");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_fills_and_returns),
        cmocka_unit_test(wrap_prefixes_and_keeps_the_status),
        cmocka_unit_test(control_characters_become_spaces),
        cmocka_unit_test(bytes_that_are_not_utf8_are_replaced),
        cmocka_unit_test(long_text_is_cut_between_characters),
        cmocka_unit_test(wrapping_long_text_cuts_the_end),
        cmocka_unit_test(every_status_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
