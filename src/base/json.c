/* json.c - see json.h.
 *
 * The text is read as it stands; only where a number is refused it is read again, from a copy in
 * which each integer that does not fit carries an exponent of zero, which makes it a real number.
 */
#include "base/json.h"

#include "base/buf.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define SAFE_CHARS    18u /* of an integer that fits 63 bits whatever its digits are */
#define INTEGER_CHARS 20u /* of the longest that does: a sign and 19 digits */

static bool is_of_number(char c) { return c != '\0' && strchr("0123456789+-.eE", c) != NULL; }

/* The integer's characters fit json_int_t. */
static bool fits(const char *digits, size_t n) {
    char copy[INTEGER_CHARS + 1], *end;
    if (n <= SAFE_CHARS) return true;
    if (n > INTEGER_CHARS) return false;
    memcpy(copy, digits, n);
    copy[n] = '\0';
    errno = 0;
    (void)strtoll(copy, &end, 10);
    return errno == 0 && *end == '\0';
}

static size_t string_end(const char *text, size_t n, size_t at) {
    for (at++; at < n && text[at] != '"'; at++) at += text[at] == '\\';
    return at < n ? at + 1 : n;
}

static void widen_integers(const char *text, size_t n, exo_buf *out) {
    for (size_t at = 0, begin = 0; at < n; begin = at) {
        bool is_long = false;
        if (text[at] == '"') {
            at = string_end(text, n, at);
        } else if (is_of_number(text[at])) {
            bool is_real = false;
            for (; at < n && is_of_number(text[at]); at++)
                is_real = is_real || strchr(".eE", text[at]) != NULL;
            is_long = !is_real && !fits(text + begin, at - begin);
        } else {
            at++;
        }
        exo_buf_append(out, text + begin, at - begin);
        if (is_long) exo_buf_append(out, "e0", 2);
    }
}

json_t *exo_json_load(const char *text, size_t n, size_t flags, json_error_t *why) {
    json_error_t unread;
    if (why == NULL) why = &unread;
    json_t *j = json_loadb(text, n, flags, why);
    if (j != NULL || json_error_code(why) != json_error_numeric_overflow) return j;
    exo_buf wide = {0};
    widen_integers(text, n, &wide);
    if (exo_buf_ok(&wide)) j = json_loadb(exo_buf_str(&wide), wide.n, flags, why);
    exo_buf_finish(&wide);
    return j;
}
