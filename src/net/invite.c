/* invite.c - the words of join codes, and the file of invitations. */
#define _DEFAULT_SOURCE
#include "net/invite.h"

#include "base/clock.h"
#include "base/hash.h"
#include "net/secret.h"

#include <jansson.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define N_FIRST      64
#define N_SECOND     32
#define WORD_BITS    11 /* 64 x 32 = 2048 words */
#define WORD_BYTES   24
#define CODE_SALT    "exo join code 1"
#define SCRYPT_N     32768
#define SCRYPT_R     8
#define SCRYPT_P     1
#define SCRYPT_LIMIT (64u << 20)
#define FILE_LIMIT   65536
#define LOCK_FILE    "cluster.lock"
#define LOCK_WAIT_MS 5000u
#define KEEP_S       86400.0 /* after its end, for "this code was used already" */
#define MAX_KEPT     64

static const char *const first_words[N_FIRST] = {
    "amber",  "apple",  "arrow",  "autumn", "bamboo", "barley", "birch",  "black",
    "blue",   "brick",  "brown",  "candle", "cedar",  "cherry", "clover", "cloud",
    "copper", "coral",  "cotton", "dawn",   "desert", "dusk",   "east",   "ember",
    "fern",   "flint",  "forest", "frost",  "garden", "ginger", "gold",   "grape",
    "green",  "hazel",  "honey",  "iron",   "ivory",  "jade",   "lake",   "lemon",
    "linen",  "maple",  "marble", "meadow", "mint",   "moon",   "north",  "oak",
    "olive",  "orange", "pearl",  "pepper", "pine",   "plum",   "purple", "river",
    "silver", "snow",   "south",  "summer", "velvet", "violet", "west",   "winter"};

static const char *const second_words[N_SECOND] = {
    "bark", "bear", "bell", "bird", "boat", "book", "bowl", "crow", "deer", "dove", "drum",
    "duck", "fish", "foot", "frog", "goat", "hare", "hawk", "hill", "horn", "kite", "lamp",
    "leaf", "moth", "path", "road", "rock", "seed", "ship", "star", "tree", "wolf"};

/* ---- codes ---- */

exo_status exo_code_make(char out[EXO_CODE_BYTES], exo_error *err) {
    uint8_t random[2 * EXO_CODE_WORDS];
    if (RAND_bytes(random, sizeof random) != 1) {
        return exo_error_set(err, EXO_EIO, "OpenSSL has no random bytes for a join code");
    }
    size_t n = 0;
    for (size_t i = 0; i < EXO_CODE_WORDS; i++) {
        unsigned word = (random[2 * i] | (unsigned)random[2 * i + 1] << 8) % (1u << WORD_BITS);
        n += (size_t)snprintf(out + n, EXO_CODE_BYTES - n, "%s%s%s", i > 0 ? "-" : "",
                              first_words[word / N_SECOND], second_words[word % N_SECOND]);
    }
    OPENSSL_cleanse(random, sizeof random);
    return EXO_OK;
}

static bool is_word(const char *word) {
    for (size_t i = 0; i < N_FIRST; i++) {
        size_t n = strlen(first_words[i]);
        if (strncmp(word, first_words[i], n) != 0) continue;
        for (size_t k = 0; k < N_SECOND; k++) {
            if (strcmp(word + n, second_words[k]) == 0) return true;
        }
    }
    return false;
}

/* The next run of letters in lower case; false at the end. */
static bool next_word(const char **text, char out[WORD_BYTES]) {
    const char *p = *text;
    size_t n = 0;
    while (*p != '\0' && *p != '?' && !isalpha((unsigned char)*p)) p++;
    for (; isalpha((unsigned char)*p); p++) {
        if (n + 1 < WORD_BYTES) out[n++] = (char)tolower((unsigned char)*p);
    }
    out[n] = '\0';
    *text = p;
    return n > 0;
}

/* The code as it was made: lower case, "-" between words. */
static exo_status normalise(const char *text, char out[EXO_CODE_BYTES], exo_error *err) {
    char word[WORD_BYTES];
    size_t n_words = 0, n = 0;
    if (strncmp(text, "exo:", 4) == 0) text += 4;
    while (next_word(&text, word)) {
        if (!is_word(word)) {
            return exo_error_set(err, EXO_EINVAL, "\"%s\" is no word of a join code", word);
        }
        if (++n_words > EXO_CODE_WORDS) break;
        n += (size_t)snprintf(out + n, EXO_CODE_BYTES - n, "%s%s", n > 0 ? "-" : "", word);
    }
    if (n_words == EXO_CODE_WORDS) return EXO_OK;
    return exo_error_set(err, EXO_EINVAL, "a join code has %d words, this one has %s%zu",
                         EXO_CODE_WORDS, n_words > EXO_CODE_WORDS ? "at least " : "", n_words);
}

exo_status exo_code_read(const char *text, exo_invite *out, exo_error *err) {
    char code[EXO_CODE_BYTES] = "";
    uint8_t derived[EXO_JOIN_KEY_BYTES + 4];
    *out = (exo_invite){0};
    exo_status st = normalise(text, code, err);
    if (st == EXO_OK &&
        EVP_PBE_scrypt(code, strlen(code), (const unsigned char *)CODE_SALT, strlen(CODE_SALT),
                       SCRYPT_N, SCRYPT_R, SCRYPT_P, SCRYPT_LIMIT, derived, sizeof derived) != 1) {
        st = exo_error_set(err, EXO_ENOMEM, "no memory to read a join code (32 MiB)");
    }
    if (st == EXO_OK) {
        memcpy(out->key, derived, sizeof out->key);
        exo_hex(derived + EXO_JOIN_KEY_BYTES, 4, out->id);
    }
    OPENSSL_cleanse(code, sizeof code);
    OPENSSL_cleanse(derived, sizeof derived);
    return st;
}

/* ---- the file ---- */

static bool read_hex(const char *text, uint8_t *out, size_t n) {
    if (text == NULL || strlen(text) != 2 * n) return false;
    for (size_t i = 0; i < n; i++) {
        unsigned byte;
        char pair[3] = {text[2 * i], text[2 * i + 1], '\0'};
        if (!isxdigit((unsigned char)pair[0]) || !isxdigit((unsigned char)pair[1]) ||
            sscanf(pair, "%2x", &byte) != 1) {
            return false;
        }
        out[i] = (uint8_t)byte;
    }
    return true;
}

static bool from_json(const json_t *j, exo_invite *out) {
    const char *id = json_string_value(json_object_get(j, "id"));
    const char *by = json_string_value(json_object_get(j, "used_by"));
    const json_t *expires = json_object_get(j, "expires");
    *out = (exo_invite){.expires = json_number_value(expires)};
    if (id == NULL || strlen(id) != EXO_JOIN_ID_BYTES - 1 || !json_is_number(expires) ||
        !read_hex(json_string_value(json_object_get(j, "key")), out->key, sizeof out->key)) {
        return false;
    }
    snprintf(out->id, sizeof out->id, "%s", id);
    snprintf(out->used_by, sizeof out->used_by, "%s", by != NULL ? by : "");
    return true;
}

/* The readable invitations of the file; an unreadable file counts as none. */
static json_t *read_file(const char *dir) {
    exo_buf text = {0};
    json_t *list = NULL;
    if (exo_secret_read(dir, EXO_INVITE_FILE, "join codes", FILE_LIMIT, &text, NULL) == EXO_OK) {
        list = json_loadb(exo_buf_str(&text), text.n, 0, NULL);
    }
    exo_buf_finish(&text);
    if (!json_is_array(list)) {
        json_decref(list);
        list = json_array();
    }
    return list;
}

static exo_status write_file(const char *dir, const json_t *list, exo_error *err) {
    char *text = json_dumps(list, JSON_INDENT(1));
    if (text == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for join codes");
    exo_status st = exo_secret_write(dir, EXO_INVITE_FILE, text, strlen(text), err);
    free(text);
    return st;
}

static size_t forget_old(json_t *list, double now) {
    size_t open = 0;
    for (size_t i = json_array_size(list); i-- > 0;) {
        exo_invite item;
        bool good = from_json(json_array_get(list, i), &item);
        if (!good || item.expires + KEEP_S < now || item.expires > now + EXO_INVITE_MAX_S) {
            json_array_remove(list, i);
        } else if (item.used_by[0] == '\0' && item.expires > now) {
            open++;
        }
    }
    while (json_array_size(list) >= MAX_KEPT) json_array_remove(list, 0);
    return open;
}

static exo_status add(json_t *list, const exo_invite *i, exo_error *err) {
    char key[2 * EXO_JOIN_KEY_BYTES + 1];
    if (forget_old(list, exo_unix_time()) >= EXO_INVITE_MAX_OPEN) {
        return exo_error_set(err, EXO_EBUSY,
                             "%d join codes are open already: wait until some "
                             "are used or expire",
                             EXO_INVITE_MAX_OPEN);
    }
    exo_hex(i->key, sizeof i->key, key);
    int r = json_array_append_new(
        list, json_pack("{s:s, s:s, s:f}", "id", i->id, "key", key, "expires", i->expires));
    OPENSSL_cleanse(key, sizeof key);
    return r == 0 ? EXO_OK : exo_error_set(err, EXO_ENOMEM, "no memory for a join code");
}

static exo_status use(json_t *list, const char *id, const char *by, exo_error *err) {
    size_t i;
    json_t *j;
    json_array_foreach(list, i, j) {
        exo_invite item;
        if (!from_json(j, &item) || strcmp(item.id, id) != 0) continue;
        if (item.used_by[0] != '\0') {
            return exo_error_set(err, EXO_EBUSY,
                                 "this join code was used already, by %s: ask for a new one "
                                 "(`exo invite`)",
                                 item.used_by);
        }
        if (item.expires <= exo_unix_time()) {
            return exo_error_set(err, EXO_ETIMEDOUT,
                                 "this join code has expired: ask for a new one (`exo invite`)");
        }
        return json_object_set_new(j, "used_by", json_string(by)) == 0
                   ? EXO_OK
                   : exo_error_set(err, EXO_ENOMEM, "no memory for a join code");
    }
    return exo_error_set(err, EXO_ENOTFOUND, "no join code like this was given out here");
}

exo_status exo_invites_add(const char *data_dir, const exo_invite *i, exo_error *err) {
    int lock;
    exo_status st = exo_secret_lock(data_dir, LOCK_FILE, LOCK_WAIT_MS, &lock, err);
    if (st != EXO_OK) return st;
    json_t *list = read_file(data_dir);
    st = add(list, i, err);
    if (st == EXO_OK) st = write_file(data_dir, list, err);
    json_decref(list);
    close(lock);
    return st;
}

exo_status exo_invites_use(const char *data_dir, const char *id, const char *by, exo_error *err) {
    int lock;
    exo_status st = exo_secret_lock(data_dir, LOCK_FILE, LOCK_WAIT_MS, &lock, err);
    if (st != EXO_OK) return st;
    json_t *list = read_file(data_dir);
    st = use(list, id, by, err);
    if (st == EXO_OK) st = write_file(data_dir, list, err);
    json_decref(list);
    close(lock);
    return st;
}

bool exo_invites_find(const char *data_dir, const char *id, exo_invite *out) {
    json_t *list = read_file(data_dir), *j;
    size_t i;
    bool found = false;
    json_array_foreach(list, i, j) {
        found = from_json(j, out) && strcmp(out->id, id) == 0;
        if (found) break;
    }
    json_decref(list);
    return found;
}

double exo_invites_said_until(const char *data_dir) {
    json_t *list = read_file(data_dir), *j;
    size_t i;
    double until = 0;
    json_array_foreach(list, i, j) {
        exo_invite item;
        if (from_json(j, &item) && item.expires + EXO_INVITE_LATE_S > until) {
            until = item.expires + EXO_INVITE_LATE_S;
        }
    }
    json_decref(list);
    return until > exo_unix_time() ? until : 0;
}
