/* hub.h - what people write to name a model on a hub, and what the hub answers; no network here.
 *
 * Everything is a pure function of its text.  Names that come from a hub are hostile: a path that
 * would leave its folder, hide itself or carry control characters is refused.
 * Thread: ANY. */
#ifndef EXO_NODE_HUB_H
#define EXO_NODE_HUB_H

#include <exo/base.h>

#define EXO_HUB_MAX_FILES      100000
#define EXO_HUB_MAX_PATH_BYTES 1024
#define EXO_HUB_ID_BYTES       128 /* of the local model id, with its NUL */
#define EXO_HUB_COMMIT_BYTES   64

/* "hf:owner/repo[@revision][:what]" or "https://host/path/FILE.gguf". */
typedef struct {
    char repo[200];     /* "owner/repo"; "" for a plain address */
    char revision[128]; /* "main" unless said */
    char what[512];     /* a file's path, a quantisation, "safetensors", or "" */
    char url[2048];     /* of a plain address; else "" */
    char file[256];     /* a plain address' file name; else "" */
} exo_hub_ref;

/* EXO_EINVAL says which forms there are. */
exo_status exo_hub_ref_parse(const char *text, exo_hub_ref *out, exo_error *err);

typedef struct {
    char *path; /* within the repository; safe to use below a folder */
    uint64_t bytes;
    char sha256[65]; /* "" where the hub knows none (small files kept in git itself) */
} exo_hub_file;

typedef struct {
    exo_hub_file *files; /* owned */
    size_t n, cap;
} exo_hub_tree;

void exo_hub_tree_finish(exo_hub_tree *t); /* all-zero memory is a valid empty tree */

/* Appends the files of one page of GET /api/models/REPO/tree/REVISION?recursive=1. */
exo_status exo_hub_tree_parse(const char *json, size_t n, exo_hub_tree *t, exo_error *err);
/* The commit in the answer to GET /api/models/REPO/revision/REVISION. */
exo_status exo_hub_commit_parse(const char *json, size_t n, char out[EXO_HUB_COMMIT_BYTES],
                                exo_error *err);

/* The files of one model, in the order in which they are to be fetched. */
typedef struct {
    char id[EXO_HUB_ID_BYTES]; /* what -m will take */
    bool folder;               /* safetensors: all files live in one folder, named by the id */
    const exo_hub_file **files;
    size_t n;
    uint64_t bytes;
} exo_hub_choice;

void exo_hub_choice_finish(exo_hub_choice *c); /* all-zero memory is allowed */

/* Which files of t the reference asks for; borrowed from t.  EXO_ENOTFOUND says what there is. */
exo_status exo_hub_choose(const exo_hub_tree *t, const exo_hub_ref *ref, exo_hub_choice *out,
                          exo_error *err);

/* A file's name without folders. */
const char *exo_hub_base_name(const char *path);
/* What a file from this path is called on disk: its base name, but for the one file of a folder
 * that lies in a folder of its own. */
#define EXO_HUB_POOLING "1_Pooling/config.json"
const char *exo_hub_local_name(const char *path);

#endif
