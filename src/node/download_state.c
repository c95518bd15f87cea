/* download_state.c - the pieces of a file, and the small JSON file that remembers them.
 *
 * {"identity": "...", "bytes": n, "piece_bytes": n, "done": [bytes of each piece]}
 * Written beside the part file, under another name first, so that it is whole or not there.  What
 * does not fit is not an error: the download begins anew. */
#define _POSIX_C_SOURCE 200809L
#include "node/download_impl.h"

#include "base/mem.h"
#include "model/paths.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIN_PIECE_BYTES (1ull << 20)
#define MAX_PIECE_BYTES (64ull << 20)
#define MAX_PIECES      65536
#define PATH_BYTES      4096

exo_status exo_pieces_init(exo_pieces *p, uint64_t bytes, uint32_t n_connections, exo_error *err) {
    uint64_t size = n_connections <= 1 ? bytes : bytes / (4ull * n_connections);
    if (n_connections > 1) {
        if (size < MIN_PIECE_BYTES) size = MIN_PIECE_BYTES;
        if (size > MAX_PIECE_BYTES) size = MAX_PIECE_BYTES;
        if (size < bytes / MAX_PIECES) size = bytes / MAX_PIECES + 1;
    }
    if (size == 0) size = 1;
    exo_pieces made = {.bytes = bytes, .piece_bytes = size};
    made.n = (size_t)(bytes / size + (bytes % size != 0));
    made.done = exo_calloc(made.n > 0 ? made.n : 1, sizeof *made.done);
    if (made.done == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a download");
    *p = made;
    return EXO_OK;
}

void exo_pieces_finish(exo_pieces *p) {
    exo_free(p->done);
    *p = (exo_pieces){0};
}

uint64_t exo_pieces_length(const exo_pieces *p, size_t i) {
    uint64_t begin = (uint64_t)i * p->piece_bytes;
    return p->bytes - begin < p->piece_bytes ? p->bytes - begin : p->piece_bytes;
}

uint64_t exo_pieces_done(const exo_pieces *p) {
    uint64_t sum = 0;
    for (size_t i = 0; i < p->n; i++) sum += p->done[i];
    return sum;
}

/* ---- the state file ---- */

static bool get_u64(const json_t *j, const char *key, uint64_t *out) {
    const json_t *v = json_object_get(j, key);
    if (!json_is_integer(v) || json_integer_value(v) < 0) return false;
    *out = (uint64_t)json_integer_value(v);
    return true;
}

/* Takes over what the state says, when all of it fits. */
static bool take_state(exo_pieces *p, const json_t *state, const char *identity) {
    exo_pieces found = {0};
    const char *its = json_string_value(json_object_get(state, "identity"));
    const json_t *done = json_object_get(state, "done");
    if (its == NULL || strcmp(its, identity) != 0) return false;
    if (!get_u64(state, "bytes", &found.bytes) || found.bytes != p->bytes) return false;
    if (!get_u64(state, "piece_bytes", &found.piece_bytes) || found.piece_bytes == 0) return false;
    uint64_t n = found.bytes / found.piece_bytes + (found.bytes % found.piece_bytes != 0);
    if (n > MAX_PIECES + 1 || json_array_size(done) != n) return false;
    found.n = (size_t)n;
    found.done = exo_calloc(n > 0 ? (size_t)n : 1, sizeof *found.done);
    bool ok = found.done != NULL;
    for (size_t i = 0; i < found.n && ok; i++) {
        const json_t *v = json_array_get(done, i);
        ok = json_is_integer(v) && json_integer_value(v) >= 0 &&
             (uint64_t)json_integer_value(v) <= exo_pieces_length(&found, i);
        if (ok) found.done[i] = (uint64_t)json_integer_value(v);
    }
    if (!ok) {
        exo_pieces_finish(&found);
        return false;
    }
    exo_pieces_finish(p);
    *p = found;
    return true;
}

static bool state_path(char out[PATH_BYTES], const char *part_path, const char *suffix) {
    int n = snprintf(out, PATH_BYTES, "%s.json%s", part_path, suffix);
    return n > 0 && n < PATH_BYTES;
}

bool exo_pieces_load(exo_pieces *p, const char *part_path, const char *identity) {
    char path[PATH_BYTES];
    struct stat st;
    if (identity[0] == '\0' || !state_path(path, part_path, "")) return false;
    if (stat(part_path, &st) != 0 || (uint64_t)st.st_size != p->bytes) return false;
    json_t *state = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    bool taken = state != NULL && take_state(p, state, identity);
    json_decref(state);
    return taken && exo_pieces_done(p) > 0;
}

static json_t *state_json(const exo_pieces *p, const char *identity) {
    json_t *done = json_array();
    for (size_t i = 0; i < p->n && done != NULL; i++) {
        if (json_array_append_new(done, json_integer((json_int_t)p->done[i])) == 0) continue;
        json_decref(done);
        done = NULL;
    }
    if (done == NULL) return NULL;
    return json_pack("{s:s, s:I, s:I, s:o}", "identity", identity, "bytes", (json_int_t)p->bytes,
                     "piece_bytes", (json_int_t)p->piece_bytes, "done", done);
}

exo_status exo_pieces_save(const exo_pieces *p, const char *part_path, const char *identity,
                           exo_error *err) {
    char path[PATH_BYTES], temp[PATH_BYTES];
    if (!state_path(path, part_path, "") || !state_path(temp, part_path, ".tmp")) {
        return exo_error_set(err, EXO_EINVAL, "the path of %s is too long",
                             exo_path_tail(part_path));
    }
    json_t *state = state_json(p, identity);
    if (state == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a download");
    int failed = json_dump_file(state, temp, JSON_COMPACT) != 0 || rename(temp, path) != 0;
    json_decref(state);
    if (!failed) return EXO_OK;
    exo_status st =
        exo_error_set(err, EXO_EIO, "cannot write %s: %s", exo_path_tail(path), strerror(errno));
    unlink(temp);
    return st;
}

void exo_pieces_forget(const char *part_path) {
    char path[PATH_BYTES];
    if (state_path(path, part_path, "")) unlink(path);
    if (state_path(path, part_path, ".tmp")) unlink(path);
}
