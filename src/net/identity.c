/* identity.c - the node's key file, and Ed25519 by OpenSSL.
 *
 * <data_dir>/node.key is 64 hex digits (the 32 secret bytes of RFC 8032) and a newline: small
 * enough that one write is whole or absent, and readable without a parser.  A key that others
 * may read is refused rather than repaired, since it may already have been copied. */
#define _POSIX_C_SOURCE 200809L
#include "net/identity.h"

#include "base/buf.h"
#include "base/hash.h"
#include "base/mem.h"
#include "net/secret.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECRET_BYTES   32
#define KEY_FILE_BYTES (2 * SECRET_BYTES + 1) /* hex digits and a newline */

struct exo_identity {
    EVP_PKEY *key;
    uint8_t public_key[EXO_PUBLIC_KEY_BYTES];
    char node_id[EXO_NODE_ID_BYTES];
};

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

static exo_status check_key_file(int fd, const char *path, exo_error *err) {
    struct stat info;
    if (fstat(fd, &info) != 0) {
        return exo_error_set(err, EXO_EIO, "%s: %s", path, strerror(errno));
    }
    if (!S_ISREG(info.st_mode)) {
        return exo_error_set(err, EXO_EAUTH, "%s is not a regular file", path);
    }
    if ((info.st_mode & 077) != 0) {
        return exo_error_set(err, EXO_EAUTH,
                             "%s can be read by others (mode %03o); this node's secret key is in "
                             "it. If nobody has copied it: chmod 600 %s",
                             path, (unsigned)info.st_mode & 0777, path);
    }
    return EXO_OK;
}

/* EXO_ENOTFOUND, without a message, when there is no file yet. */
static exo_status read_secret(const char *path, uint8_t secret[SECRET_BYTES], exo_error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT) return EXO_ENOTFOUND;
    if (fd < 0) return exo_error_set(err, EXO_EIO, "cannot open %s: %s", path, strerror(errno));
    exo_status st = check_key_file(fd, path, err);
    char text[KEY_FILE_BYTES + 1];
    ssize_t n = st == EXO_OK ? read(fd, text, sizeof text) : 0;
    close(fd);
    if (st != EXO_OK) return st;
    bool good = n == KEY_FILE_BYTES && text[KEY_FILE_BYTES - 1] == '\n';
    for (size_t i = 0; good && i < SECRET_BYTES; i++) {
        int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
        good = high >= 0 && low >= 0;
        secret[i] = (uint8_t)((unsigned)high << 4 | (unsigned)low);
    }
    OPENSSL_cleanse(text, sizeof text);
    if (!good) {
        return exo_error_set(err, EXO_EFORMAT,
                             "%s does not hold a key (64 hex digits and a newline); remove it to "
                             "give this node a new identity",
                             path);
    }
    return EXO_OK;
}

static exo_status write_secret(const char *path, const uint8_t secret[SECRET_BYTES],
                               exo_error *err) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return exo_error_set(err, EXO_EIO, "cannot make %s: %s", path, strerror(errno));
    char text[KEY_FILE_BYTES + 1];
    exo_hex(secret, SECRET_BYTES, text);
    text[KEY_FILE_BYTES - 1] = '\n';
    bool whole = write(fd, text, KEY_FILE_BYTES) == KEY_FILE_BYTES && fsync(fd) == 0;
    int why = errno;
    OPENSSL_cleanse(text, sizeof text);
    if (close(fd) != 0 && whole) {
        whole = false;
        why = errno;
    }
    if (whole) return EXO_OK;
    unlink(path);
    return exo_error_set(err, EXO_EIO, "cannot write %s: %s", path, strerror(why));
}

static exo_status new_secret(const char *path, uint8_t secret[SECRET_BYTES], exo_error *err) {
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    size_t n = SECRET_BYTES;
    bool made = key != NULL && EVP_PKEY_get_raw_private_key(key, secret, &n) == 1;
    EVP_PKEY_free(key);
    if (!made) return exo_error_set(err, EXO_EIO, "OpenSSL cannot make an Ed25519 key");
    return write_secret(path, secret, err);
}

static exo_status from_secret(const uint8_t secret[SECRET_BYTES], exo_identity **out,
                              exo_error *err) {
    exo_identity *i = exo_calloc(1, sizeof *i);
    if (i == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for the node's identity");
    size_t n = sizeof i->public_key;
    i->key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, secret, SECRET_BYTES);
    if (i->key == NULL || EVP_PKEY_get_raw_public_key(i->key, i->public_key, &n) != 1) {
        exo_identity_destroy(i);
        return exo_error_set(err, EXO_EIO, "OpenSSL does not accept the node's key");
    }
    exo_identity_node_id_of(i->public_key, i->node_id);
    *out = i;
    return EXO_OK;
}

exo_status exo_identity_load(const char *data_dir, exo_identity **out, exo_error *err) {
    *out = NULL;
    exo_status st = exo_secret_directory(data_dir, err);
    if (st != EXO_OK) return st;
    exo_buf path = {0};
    exo_buf_printf(&path, "%s/node.key", data_dir);
    uint8_t secret[SECRET_BYTES];
    if (!exo_buf_ok(&path)) {
        st = exo_error_set(err, EXO_ENOMEM, "no memory for a path");
    } else {
        st = read_secret(path.data, secret, err);
        if (st == EXO_ENOTFOUND) st = new_secret(path.data, secret, err);
    }
    if (st == EXO_OK) st = from_secret(secret, out, err);
    OPENSSL_cleanse(secret, sizeof secret);
    exo_buf_finish(&path);
    return st;
}

void exo_identity_destroy(exo_identity *i) {
    if (i == NULL) return;
    EVP_PKEY_free(i->key);
    exo_free(i);
}

const char *exo_identity_node_id(const exo_identity *i) { return i->node_id; }
const uint8_t *exo_identity_public_key(const exo_identity *i) { return i->public_key; }

exo_status exo_identity_sign(const exo_identity *i, const void *bytes, size_t n,
                             uint8_t out[EXO_SIGNATURE_BYTES], exo_error *err) {
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    size_t n_out = EXO_SIGNATURE_BYTES;
    bool good = ctx != NULL && EVP_DigestSignInit(ctx, NULL, NULL, NULL, i->key) == 1 &&
                EVP_DigestSign(ctx, out, &n_out, bytes, n) == 1;
    EVP_MD_CTX_free(ctx);
    if (!good) return exo_error_set(err, EXO_ENOMEM, "OpenSSL cannot sign");
    return EXO_OK;
}

bool exo_identity_verify(const uint8_t public_key[EXO_PUBLIC_KEY_BYTES], const void *bytes,
                         size_t n, const uint8_t signature[EXO_SIGNATURE_BYTES]) {
    EVP_PKEY *key =
        EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public_key, EXO_PUBLIC_KEY_BYTES);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = key != NULL && ctx != NULL &&
                EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) == 1 &&
                EVP_DigestVerify(ctx, signature, EXO_SIGNATURE_BYTES, bytes, n) == 1;
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
    return good;
}

void exo_identity_node_id_of(const uint8_t public_key[EXO_PUBLIC_KEY_BYTES],
                             char out[EXO_NODE_ID_BYTES]) {
    uint8_t digest[EXO_SHA256_BYTES] = {0};
    EVP_Digest(public_key, EXO_PUBLIC_KEY_BYTES, digest, NULL, EVP_sha256(), NULL);
    exo_hex(digest, (EXO_NODE_ID_BYTES - 1) / 2, out);
}
