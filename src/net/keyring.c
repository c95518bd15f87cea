/* keyring.c - cluster.json: strict reading, whole writing, and the changes that commands make. */
#define _POSIX_C_SOURCE 200809L
#include "net/keyring.h"

#include "base/hash.h"
#include "net/secret.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_LIMIT     262144
#define LOCK_FILE      "cluster.lock"
#define LOCK_WAIT_MS   5000u
#define RANDOM_BYTES   32
#define ID_BYTES       ((EXO_CLUSTER_ID_BYTES - 1) / 2)
#define MAX_GENERATION 1000000000

bool exo_is_node_id(const char *text) {
    return strlen(text) == EXO_NODE_ID_BYTES - 1 &&
           strspn(text, "0123456789abcdef") == EXO_NODE_ID_BYTES - 1;
}

void exo_keyring_finish(exo_keyring *k) {
    json_decref(k->removed);
    OPENSSL_cleanse(k, sizeof *k);
}

static exo_status copy_text(const char *what, const char *in, char *out, size_t cap,
                            exo_error *err) {
    if (strlen(in) >= cap) {
        return exo_error_set(err, EXO_EINVAL, "the %s is longer than %zu characters", what,
                             cap - 1);
    }
    snprintf(out, cap, "%s", in);
    return EXO_OK;
}

exo_status exo_keyring_set(exo_keyring *k, const char *key, const char *name_space,
                           uint32_t generation, exo_error *err) {
    exo_status st = copy_text("cluster key", key, k->stored_key, sizeof k->stored_key, err);
    if (st == EXO_OK) {
        st = copy_text("namespace", name_space, k->stored_name_space, sizeof k->stored_name_space,
                       err);
    }
    if (st == EXO_OK && strlen(key) < EXO_KEY_MIN) {
        st = exo_error_set(err, EXO_EINVAL, "the cluster key needs at least %d characters",
                           EXO_KEY_MIN);
    }
    if (st == EXO_OK) k->generation = generation;
    return st;
}

exo_status exo_keyring_renew(exo_keyring *k, exo_error *err) {
    uint8_t fresh[RANDOM_BYTES];
    char text[2 * RANDOM_BYTES + 1];
    if (RAND_bytes(fresh, sizeof fresh) != 1) {
        return exo_error_set(err, EXO_EIO, "OpenSSL has no random bytes for a cluster key");
    }
    char name_space[EXO_NAMESPACE_BYTES];
    memcpy(name_space, k->stored_name_space, sizeof name_space);
    exo_hex(fresh, sizeof fresh, text);
    exo_status st = exo_keyring_set(k, text, name_space, k->generation + 1, err);
    OPENSSL_cleanse(fresh, sizeof fresh);
    OPENSSL_cleanse(text, sizeof text);
    return st;
}

exo_status exo_keyring_begin(exo_keyring *k, exo_error *err) {
    uint8_t fresh[ID_BYTES];
    k->joined = k->rekeyed = false;
    json_object_clear(k->removed);
    if (RAND_bytes(fresh, sizeof fresh) != 1) {
        return exo_error_set(err, EXO_EIO, "OpenSSL has no random bytes for a cluster");
    }
    exo_hex(fresh, sizeof fresh, k->cluster);
    return exo_keyring_renew(k, err);
}

/* The id as told; who tells none means the one that follows from its key. */
static exo_status set_cluster(exo_keyring *k, const char *id, exo_error *err) {
    uint8_t digest[EXO_SHA256_BYTES];
    if (id != NULL && strlen(id) == EXO_CLUSTER_ID_BYTES - 1 &&
        strspn(id, "0123456789abcdef") == EXO_CLUSTER_ID_BYTES - 1) {
        memcpy(k->cluster, id, sizeof k->cluster);
        return EXO_OK;
    }
    if (id != NULL) return exo_error_set(err, EXO_EFORMAT, "the cluster's id is none");
    if (EVP_Digest(k->stored_key, strlen(k->stored_key), digest, NULL, EVP_sha256(), NULL) != 1) {
        return exo_error_set(err, EXO_ENOMEM, "no memory for the cluster's id");
    }
    exo_hex(digest, ID_BYTES, k->cluster);
    return EXO_OK;
}

exo_status exo_keyring_welcome(exo_keyring *k, const json_t *m, exo_error *err) {
    const char *key = json_string_value(json_object_get(m, "key"));
    const char *space = json_string_value(json_object_get(m, "namespace"));
    json_int_t generation = json_integer_value(json_object_get(m, "generation"));
    if (key == NULL || space == NULL || generation < 0 || generation > MAX_GENERATION) {
        return exo_error_set(err, EXO_EFORMAT, "the cluster's answer lacks its key");
    }
    exo_status st = exo_keyring_set(k, key, space, (uint32_t)generation, err);
    if (st == EXO_OK) st = set_cluster(k, json_string_value(json_object_get(m, "cluster")), err);
    if (st != EXO_OK) return st;
    k->joined = true;
    k->rekeyed = false;
    json_object_clear(k->removed);
    exo_keyring_merge_removed(k, json_object_get(m, "removed"));
    return EXO_OK;
}

/* ---- the file ---- */

static exo_status take_members(const json_t *j, exo_keyring *k, exo_error *err) {
    const char *key = json_string_value(json_object_get(j, "key"));
    const char *space = json_string_value(json_object_get(j, "namespace"));
    json_t *generation = json_object_get(j, "generation"), *removed = json_object_get(j, "removed");
    json_int_t g = json_integer_value(generation);
    if (key == NULL || space == NULL || !json_is_integer(generation) || g < 0 ||
        g > MAX_GENERATION || !json_is_object(removed)) {
        return exo_error_set(err, EXO_EFORMAT, "a member is missing or of another type");
    }
    exo_status st = exo_keyring_set(k, key, space, (uint32_t)g, err);
    if (st == EXO_OK) st = set_cluster(k, json_string_value(json_object_get(j, "cluster")), err);
    if (st != EXO_OK) return st;
    k->joined = json_is_true(json_object_get(j, "joined"));
    k->rekeyed = json_is_true(json_object_get(j, "rekeyed"));
    exo_keyring_merge_removed(k, removed);
    return EXO_OK;
}

static exo_status read_file(const char *dir, exo_keyring *k, exo_error *err) {
    exo_buf text = {0};
    exo_status st =
        exo_secret_read(dir, EXO_KEYRING_FILE, "the cluster's key", FILE_LIMIT, &text, err);
    if (st == EXO_OK) {
        json_error_t why;
        json_t *j = json_loadb(exo_buf_str(&text), text.n, JSON_REJECT_DUPLICATES, &why);
        st = j != NULL ? take_members(j, k, err)
                       : exo_error_set(err, EXO_EFORMAT, "line %d: %s", why.line, why.text);
        if (st != EXO_OK) {
            st = exo_error_wrap(err, EXO_EFORMAT,
                                "%s/" EXO_KEYRING_FILE
                                " is damaged (restore it, or remove it to begin a cluster of one)",
                                dir);
        }
        json_decref(j);
    }
    if (text.data != NULL) OPENSSL_cleanse(text.data, text.n);
    exo_buf_finish(&text);
    return st;
}

static exo_status write_file(const char *dir, const exo_keyring *k, exo_error *err) {
    json_t *j = json_pack("{s:i, s:s, s:s, s:I, s:s, s:b, s:b, s:O}", "version", 1, "key",
                          k->stored_key, "namespace", k->stored_name_space, "generation",
                          (json_int_t)k->generation, "cluster", k->cluster, "joined", k->joined,
                          "rekeyed", k->rekeyed, "removed", k->removed);
    char *text = j != NULL ? json_dumps(j, JSON_INDENT(1)) : NULL;
    json_decref(j);
    if (text == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for the cluster's key");
    size_t n = strlen(text);
    exo_status st = exo_secret_write(dir, EXO_KEYRING_FILE, text, n, err);
    OPENSSL_cleanse(text, n);
    free(text);
    return st;
}

/* Reads, or makes what is not there; *made tells. */
static exo_status read_or_make(const char *dir, exo_keyring *k, bool *made, exo_error *err) {
    *k = (exo_keyring){.removed = json_object()};
    *made = false;
    if (k->removed == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for the cluster key");
    exo_status st = read_file(dir, k, err);
    if (st != EXO_ENOTFOUND) return st;
    *made = true;
    snprintf(k->stored_name_space, sizeof k->stored_name_space, "%s", EXO_DEFAULT_NAMESPACE);
    return exo_keyring_begin(k, err);
}

exo_status exo_keyring_change(const char *data_dir, exo_keyring_fn change, void *ud,
                              exo_keyring *after, exo_error *err) {
    if (after != NULL) *after = (exo_keyring){0};
    int lock = -1;
    exo_status st = exo_secret_directory(data_dir, err);
    if (st == EXO_OK) st = exo_secret_lock(data_dir, LOCK_FILE, LOCK_WAIT_MS, &lock, err);
    if (st != EXO_OK) return st;
    exo_keyring k;
    bool made;
    st = read_or_make(data_dir, &k, &made, err);
    if (st == EXO_OK && change != NULL) st = change(ud, &k, err);
    if (st == EXO_OK && (made || change != NULL)) st = write_file(data_dir, &k, err);
    close(lock);
    if (st == EXO_OK && after != NULL) {
        memcpy(k.key, k.stored_key, sizeof k.key);
        memcpy(k.name_space, k.stored_name_space, sizeof k.name_space);
        *after = k;
    } else {
        exo_keyring_finish(&k);
    }
    return st;
}

exo_status exo_keyring_load(const char *data_dir, const char *key, const char *name_space,
                            exo_keyring *out, exo_error *err) {
    exo_keyring k;
    *out = (exo_keyring){0};
    exo_status st = exo_keyring_change(data_dir, NULL, NULL, &k, err);
    if (st == EXO_EIO && key != NULL) { /* a directory that cannot be written: nothing to store */
        k = (exo_keyring){.removed = json_object()};
        st = k.removed != NULL ? EXO_OK : EXO_ENOMEM;
    }
    if (st != EXO_OK) return st;
    k.given = key != NULL;
    if (key != NULL) {
        st = copy_text("cluster key", key, k.key, sizeof k.key, err);
        snprintf(k.name_space, sizeof k.name_space, "%s", EXO_DEFAULT_NAMESPACE);
    }
    if (st == EXO_OK && name_space != NULL) {
        st = copy_text("namespace", name_space, k.name_space, sizeof k.name_space, err);
    }
    if (st == EXO_OK) {
        *out = k;
    } else {
        exo_keyring_finish(&k);
    }
    return st;
}

/* ---- removed nodes ---- */

static json_int_t counter_of(const exo_keyring *k, const char *node_id) {
    return json_integer_value(json_object_get(k->removed, node_id));
}

bool exo_keyring_is_removed(const exo_keyring *k, const char *node_id) {
    return counter_of(k, node_id) % 2 == 1;
}

exo_status exo_keyring_set_removed(exo_keyring *k, const char *node_id, bool removed,
                                   exo_error *err) {
    if (exo_keyring_is_removed(k, node_id) == removed) return EXO_OK;
    if (json_object_size(k->removed) >= EXO_MAX_REMOVED) {
        return exo_error_set(err, EXO_EBUSY,
                             "%d nodes have been removed already: begin again with `exo rekey`",
                             EXO_MAX_REMOVED);
    }
    json_int_t next = counter_of(k, node_id) + 1;
    if (json_object_set_new(k->removed, node_id, json_integer(next)) != 0) {
        return exo_error_set(err, EXO_ENOMEM, "no memory to remove a node");
    }
    return EXO_OK;
}

bool exo_keyring_merge_removed(exo_keyring *k, const json_t *theirs) {
    const char *id;
    json_t *value;
    bool news = false;
    json_object_foreach((json_t *)theirs, id, value) {
        json_int_t counter = json_integer_value(value);
        if (!exo_is_node_id(id) || counter <= counter_of(k, id) || counter > MAX_GENERATION ||
            json_object_size(k->removed) >= EXO_MAX_REMOVED) {
            continue;
        }
        news = json_object_set_new(k->removed, id, json_integer(counter)) == 0 || news;
    }
    return news;
}
