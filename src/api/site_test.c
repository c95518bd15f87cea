/* site_test.c - programs and this machine's pages pass, other sites' pages do not. */
#include "api/site.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void expect(exo_status want, const char *host, const char *origin) {
    exo_error err = {.message = ""};
    if (exo_site_check(host, origin, &err) != want) {
        fail_msg("host %s, origin %s: %s", host != NULL ? host : "none",
                 origin != NULL ? origin : "none", err.message);
    }
    assert_int_equal(want == EXO_OK, err.message[0] == '\0');
}

static void programs_name_the_machine(void **state) {
    (void)state;
    static const char *const good[] = {
        NULL,          "localhost",       "localhost:52415", "LOCALHOST:1",
        "[::1]",       "exo.localhost:1", "127.0.0.1:52415", "[::1]:52415",
        "10.0.0.7:80", "exo:52415"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) expect(EXO_OK, good[i], NULL);
    static const char *const bad[] = {"evil.example",
                                      "evil.example:52415",
                                      "localhost.evil.example",
                                      "",
                                      "127.0.0.1.nip.io:80",
                                      "not.localhost.",
                                      "[::1",
                                      "a.localhost.b",
                                      "127.0.0.1@evil.example"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) expect(EXO_EINVAL, bad[i], NULL);
}

static void pages_are_of_this_machine(void **state) {
    (void)state;
    static const char *const good[] = {"http://localhost:3000", "https://127.0.0.1",
                                       "http://[::1]:8080",     "tauri://localhost",
                                       "vscode-webview://4f2",  "app://exo"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) expect(EXO_OK, "localhost", good[i]);
    static const char *const bad[] = {
        "https://evil.example", "null",    "http://10.0.0.7:80",           "", "evil.example",
        "HTTP://evil.example",  "http://", "http://localhost.evil.example"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) expect(EXO_EINVAL, "localhost", bad[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(programs_name_the_machine),
        cmocka_unit_test(pages_are_of_this_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
