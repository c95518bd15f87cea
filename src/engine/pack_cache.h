/* pack_cache.h - packed weights kept on disk, so that the next start maps them instead of packing.
 *
 * Mapped weights are the page cache's: loading takes as long as checking their sums, several
 * processes hold them once, and the system takes them back when memory is short.  A load looks each
 * matrix up (by what pack_memo.h knows of its file), packs what is not there, and leaves it to a
 * thread of low priority to hash and write that afterwards.  Nothing that goes wrong here is an
 * error of the load: one warning says what happened, and the weights are packed in memory.
 *
 * Settings are the process's, since the folder is; without them there is no cache (the library in
 * an app).  Thread: COMPUTE, but for the settings: before any load. */
#ifndef EXO_ENGINE_PACK_CACHE_H
#define EXO_ENGINE_PACK_CACHE_H

#include "compute/backend.h"
#include "model/gguf.h"

typedef struct {
    const char *dir;    /* copied; made when it is missing; NULL: no cache */
    uint64_t cap_bytes; /* of all files; 0 = EXO_PACK_CACHE_CAP */
    uint64_t min_bytes; /* smaller loads do without; 0 = EXO_PACK_CACHE_MIN */
    bool always;        /* also where the system keeps files in small pages, see below */
} exo_pack_settings;

#define EXO_PACK_CACHE_CAP ((uint64_t)32 << 30)
#define EXO_PACK_CACHE_MIN ((uint64_t)64 << 20)

void exo_pack_cache_set(const exo_pack_settings *s);
/* The same from EXO_PACK_CACHE: "off", "on", "always", or a cap like "8G"; NULL and "" are "on".
 * EXO_EINVAL for anything else. */
exo_status exo_pack_settings_read(const char *text, exo_pack_settings *s, exo_error *err);

/* The cache as one load sees it. */
typedef struct exo_pack_cache exo_pack_cache;

/* NULL: no cache for a load of so many bytes on this backend.  Model file and device are borrowed
 * until it is closed. */
exo_pack_cache *exo_pack_cache_open(const exo_gguf *g, const exo_backend *backend,
                                    exo_device *device, uint64_t load_bytes);
/* The matrix, or NULL: then it is packed, and exo_pack_cache_keep() told.  cache may be NULL. */
exo_weight *exo_pack_cache_get(exo_pack_cache *c, const exo_tensor *t);
void exo_pack_cache_keep(exo_pack_cache *c, const exo_tensor *t, const exo_weight *w);
/* Everything is loaded: begins to write what was packed. */
void exo_pack_cache_loaded(exo_pack_cache *c);
/* Returns when that is done, or has not been for so long. */
void exo_pack_cache_wait(exo_pack_cache *c, uint64_t timeout_ms);
/* Bytes of weights that are mapped. */
uint64_t exo_pack_cache_mapped(const exo_pack_cache *c);
/* EXO_EIO when a mapped file was cut, or its disk failed, since: what was computed is wrong. */
exo_status exo_pack_cache_check(const exo_pack_cache *c, exo_error *err);
/* Stops writing behind the matrix in hand; what is whole stays.  Before its weights are destroyed.
 */
void exo_pack_cache_stop(exo_pack_cache *c);
/* After that. */
void exo_pack_cache_close(exo_pack_cache *c);

#endif
