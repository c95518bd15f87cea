/* fuzz_pack.c - notes of model files and trailers of packed weights, as a disk may give them back.
 *
 * The input is read as it is and with its hash put right, since no mutation finds a hash.  What is
 * taken for a note must be printed as long as it was. */
#include "base/le.h"
#include "engine/pack_file.h"
#include "engine/pack_memo.h"
#include "fuzz/target.h"

#include <stdlib.h>
#include <string.h>

static void read_note(const uint8_t *bytes, size_t n) {
    exo_error err = {0};
    exo_pack_memo m;
    exo_file_id file = {0};
    if (n >= 48) {
        file = (exo_file_id){.device = exo_get_u64(bytes + 8),
                             .inode = exo_get_u64(bytes + 16),
                             .bytes = exo_get_u64(bytes + 24),
                             .mtime_ns = (int64_t)exo_get_u64(bytes + 32),
                             .ctime_ns = (int64_t)exo_get_u64(bytes + 40)};
    }
    exo_status st = exo_pack_memo_parse(bytes, n, &file, &m, &err);
    CHECK(st == EXO_OK || (err.message[0] != '\0' && m.n == 0 && m.entries == NULL));
    exo_buf again = {0};
    exo_pack_memo_print(&m, &again);
    if (st == EXO_OK) CHECK(again.n == n);
    exo_buf_finish(&again);
    exo_pack_memo_finish(&m);
}

static void read_trailer(const uint8_t *bytes, size_t n) {
    uint64_t sum;
    exo_error err = {0};
    if (n < EXO_PACK_TRAILER_BYTES) return;
    exo_pack_key k = {.layout = exo_get_u32(bytes + 8),
                      .type = exo_get_u32(bytes + 12),
                      .n_rows = exo_get_u32(bytes + 16),
                      .n_cols = exo_get_u32(bytes + 20)};
    memcpy(k.content, bytes + 40, sizeof k.content);
    exo_status st = exo_pack_trailer_read(bytes, &k, n, &sum, &err);
    CHECK(st == EXO_OK ? exo_get_u64(bytes + 24) == n - EXO_PACK_TRAILER_BYTES
                       : err.message[0] != '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    read_note(bytes, n);
    read_trailer(bytes, n);
    uint8_t *fixed = malloc(n + 1);
    if (fixed == NULL || n < EXO_PACK_TRAILER_BYTES) {
        free(fixed);
        return 0;
    }
    memcpy(fixed, bytes, n);
    exo_put_u64(fixed + n - 8, exo_hash64(fixed, n - 8, 0));
    read_note(fixed, n);
    memcpy(fixed, bytes, n);
    exo_put_u64(fixed + 72, exo_hash64(fixed, 72, 0));
    read_trailer(fixed, n);
    free(fixed);
    return 0;
}
