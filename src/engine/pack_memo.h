/* pack_memo.h - what is known of the contents of one model file, so that it need not be read again.
 *
 * A file that has device, inode, length and both times as before is taken to have the contents that
 * it had.  Per matrix: where it lies, how long it is, and the SHA-256 of its bytes.  One small file
 * per model file in the cache's folder, little-endian:
 *
 *   0  "EXOMEMO1"   8  u64 device, inode, bytes, mtime_ns, ctime_ns   48  u32 n   52  u32 0
 *  56  n times: u64 offset, u64 bytes, u32 type, n_rows, n_cols, 0, u8 content[32]
 *  then u64 hash of all before
 * Thread: ANY. */
#ifndef EXO_ENGINE_PACK_MEMO_H
#define EXO_ENGINE_PACK_MEMO_H

#include "base/buf.h"
#include "base/hash.h"
#include "model/gguf.h"

#define EXO_PACK_MEMO_MAX 65536 /* matrices of one file */

typedef struct {
    uint64_t offset, bytes;
    uint32_t type, n_rows, n_cols;
    uint8_t content[EXO_SHA256_BYTES];
} exo_pack_entry;

typedef struct {
    exo_file_id file;
    exo_pack_entry *entries; /* (n) */
    size_t n, cap;
} exo_pack_memo;

void exo_pack_memo_finish(exo_pack_memo *m); /* all-zero memory is allowed */

/* Entries of a file that is not `file`, or of damaged bytes, are none: EXO_EFORMAT. */
exo_status exo_pack_memo_parse(const void *bytes, size_t n, const exo_file_id *file,
                               exo_pack_memo *out, exo_error *err);
void exo_pack_memo_print(const exo_pack_memo *m, exo_buf *out);

/* What dir knows of the file: nothing (n is 0) unless all of it is right. */
void exo_pack_memo_read(const char *dir, const exo_file_id *file, exo_pack_memo *out);
exo_status exo_pack_memo_write(const char *dir, const exo_pack_memo *m, exo_error *err);

/* NULL when the file is not known to have this matrix there. */
const exo_pack_entry *exo_pack_memo_find(const exo_pack_memo *m, const exo_pack_entry *like);
/* Replaces the entry at the same offset. */
exo_status exo_pack_memo_add(exo_pack_memo *m, const exo_pack_entry *e, exo_error *err);

#endif
