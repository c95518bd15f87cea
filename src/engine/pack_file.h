/* pack_file.h - one packed matrix as a file: written whole or not at all, checked before use.
 *
 * The name is the SHA-256 of the matrix as its model file has it, with type, shape and layout, so a
 * file's contents follow from its name.  The packed bytes stand first, at offset 0, so that they
 * can be mapped in large pages; an 80-byte trailer, little-endian, stands behind them:
 *
 *   0  "EXOPACK1"    8  u32 layout   12  u32 type   16  u32 n_rows   20  u32 n_cols
 *  24  u64 n_bytes  32  u64 sum      40  u8 content[32]              72  u64 hash of 0 .. 71
 *
 * Nothing is written to the disk by force: a file that a power cut left in pieces has a wrong sum.
 * Thread: ANY. */
#ifndef EXO_ENGINE_PACK_FILE_H
#define EXO_ENGINE_PACK_FILE_H

#include "base/hash.h"
#include "compute/backend.h"

#define EXO_PACK_TRAILER_BYTES 80
#define EXO_PACK_NAME_BYTES    128
#define EXO_PACK_PATH_BYTES    1200
#define EXO_PACK_SUFFIX        ".pack"

typedef struct {
    uint32_t layout; /* weight_layout of the backend */
    uint32_t type, n_rows, n_cols;
    uint8_t content[EXO_SHA256_BYTES]; /* of the file's bytes of the matrix */
} exo_pack_key;

/* A file in use; all zero: none. */
typedef struct {
    const uint8_t *bytes; /* packed */
    size_t n_bytes, n_mapped;
    uint64_t sum;
} exo_pack_map;

void exo_pack_trailer_write(const exo_pack_key *k, uint64_t n_bytes, uint64_t sum,
                            uint8_t out[EXO_PACK_TRAILER_BYTES]);
/* EXO_EFORMAT when it is not the trailer of k's file with file_bytes in all. */
exo_status exo_pack_trailer_read(const uint8_t bytes[EXO_PACK_TRAILER_BYTES], const exo_pack_key *k,
                                 uint64_t file_bytes, uint64_t *sum, exo_error *err);

void exo_pack_name(const exo_pack_key *k, char out[EXO_PACK_NAME_BYTES]);

/* Maps dir's file of k; whether its bytes have the sum is for the backend to see.  EXO_ENOTFOUND
 * when there is none, EXO_EFORMAT when it is damaged, EXO_EIO when it cannot be read. */
exo_status exo_pack_open(const char *dir, const exo_pack_key *k, exo_pack_map *out, exo_error *err);
void exo_pack_close(exo_pack_map *m); /* all-zero memory is allowed */
/* Whether there is such a file; it then counts as used now. */
bool exo_pack_touch(const char *dir, const exo_pack_key *k);
void exo_pack_remove(const char *dir, const exo_pack_key *k);

/* Writes another file and renames it.  EXO_ECANCELED, with nothing left behind, when *stop is set
 * meanwhile. */
exo_status exo_pack_write(const char *dir, const exo_pack_key *k, const void *bytes, size_t n,
                          const atomic_bool *stop, exo_error *err);

/* Removes the files used least recently, but none used since `since` (seconds since 1970), until
 * need bytes more fit under cap and leave the disk some room.  False when they do not. */
bool exo_pack_make_room(const char *dir, uint64_t need, uint64_t cap, double since);
/* Whether the system keeps files of this folder in large pages: a small file is tried. */
bool exo_pack_large_pages(const char *dir);

#endif
