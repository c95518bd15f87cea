/* error.c - filling and prefixing exo_error.
 *
 * Owns the text conventions of errors: one line of valid UTF-8, truncated at a character.  A
 * message may quote a file name or a stranger's bytes, and later travels as JSON, which does not
 * take anything else.  Knows nothing of logs or files. */
#include <exo/base.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Bytes of the character that begins at s, which ends in a NUL: 0 = not UTF-8. */
static size_t utf8_length(const unsigned char *s) {
    if (s[0] < 0x80) return 1;
    size_t n = s[0] >= 0xC2 && s[0] < 0xE0 ? 2 : (s[0] & 0xF0) == 0xE0 ? 3 : 4;
    if (n == 4 && (s[0] < 0xF0 || s[0] > 0xF4)) return 0;
    bool too_long = (s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xF0 && s[1] < 0x90);
    bool no_character = (s[0] == 0xED && s[1] >= 0xA0) || (s[0] == 0xF4 && s[1] >= 0x90);
    if (too_long || no_character) return 0;
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xC0) != 0x80) return 0;
    }
    return n;
}

/* Drops a character that truncation cut, and puts ' ' for controls and '?' for bytes that are not
 * UTF-8. */
static void tidy(char *message) {
    unsigned char *s = (unsigned char *)message;
    size_t n = strlen(message), left = n;
    for (size_t length; left > 0; s += length, left -= length) {
        length = utf8_length(s);
        bool cut = length == 0 && n == EXO_ERROR_BYTES - 1 && left < 4 && s[0] >= 0xC2;
        if (cut) {
            *s = '\0';
            return;
        }
        if (length == 0) *s = '?';
        if (*s < 0x20 || *s == 0x7F) *s = ' ';
        if (length == 0) length = 1;
    }
}

exo_status exo_error_set(exo_error *err, exo_status status, const char *fmt, ...) {
    if (err == NULL) return status;
    err->status = status;
    va_list args;
    va_start(args, fmt);
    vsnprintf(err->message, sizeof err->message, fmt, args);
    va_end(args);
    tidy(err->message);
    return status;
}

exo_status exo_error_wrap(exo_error *err, exo_status status, const char *fmt, ...) {
    if (err == NULL) return status;
    err->status = status;
    char prefix[EXO_ERROR_BYTES], whole[2 * EXO_ERROR_BYTES + 2];
    va_list args;
    va_start(args, fmt);
    vsnprintf(prefix, sizeof prefix, fmt, args);
    va_end(args);
    snprintf(whole, sizeof whole, "%s: %s", prefix, err->message);
    size_t n = strlen(whole);
    if (n >= sizeof err->message) n = sizeof err->message - 1;
    memcpy(err->message, whole, n);
    err->message[n] = '\0';
    tidy(err->message);
    return status;
}

const char *exo_status_name(exo_status status) {
    switch (status) {
    case EXO_OK: return "ok";
    case EXO_ENOMEM: return "out of memory";
    case EXO_EINVAL: return "invalid argument";
    case EXO_EIO: return "input/output error";
    case EXO_EFORMAT: return "malformed data";
    case EXO_EUNSUPPORTED: return "not supported";
    case EXO_ENOTFOUND: return "not found";
    case EXO_ECANCELED: return "canceled";
    case EXO_ETIMEDOUT: return "timed out";
    case EXO_EPEER: return "peer failed";
    case EXO_EAUTH: return "not authorised";
    case EXO_EBUSY: return "busy";
    case EXO_ETOOLONG: return "too long";
    case EXO_EINTERNAL: return "internal error";
    }
    return "unknown status";
}
