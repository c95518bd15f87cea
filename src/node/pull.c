/* pull.c - see pull.h. */
#define _POSIX_C_SOURCE 200809L
#include "node/pull.h"

#include "base/mem.h"
#include "model/model.h"
#include "model/paths.h"
#include "node/download_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFAULT_ENDPOINT "https://huggingface.co"
#define MAX_REPLY_BYTES  (64u << 20)
#define MAX_PAGES        200
#define MAX_ATTEMPTS     2 /* the second one when the repository changed during the first */

typedef struct {
    const exo_pull_desc *desc;
    exo_download_host host;
    exo_hub_ref ref;
    char endpoint[1024];
    char commit[EXO_HUB_COMMIT_BYTES]; /* pins what is listed and what is fetched */
    exo_hub_tree tree;
    exo_hub_choice choice;
    exo_store store;
    exo_pull_status status;
    uint64_t before; /* bytes of the files that are done */
} pull;

static bool on_progress(void *ud, exo_download_phase phase, uint64_t done, uint64_t total) {
    pull *p = ud;
    exo_pull_status *s = &p->status;
    s->phase = phase;
    if (total > 0) {
        s->file_done = done;
        s->file_total = total;
        if (phase != EXO_DOWNLOAD_CHECKING) s->done = p->before + done;
    }
    return p->desc->progress == NULL || p->desc->progress(p->desc->ud, s);
}

/* ---- asking the hub ---- */

/* ENDPOINT/prefix/REPO/middle/REVISION/PATH, each part encoded. */
static exo_status hub_url(const pull *p, const char *route, const char *path, exo_buf *out,
                          exo_error *err) {
    const char *revision = p->commit[0] != '\0' ? p->commit : p->ref.revision;
    bool api = strcmp(route, "resolve") != 0;
    exo_buf_clear(out);
    exo_buf_printf(out, "%s%s/%s/%s/%s", p->endpoint, api ? "/api/models" : "", p->ref.repo, route,
                   revision);
    while (path != NULL && *path != '\0') {
        size_t n = strcspn(path, "/");
        char *part = curl_easy_escape(NULL, path, (int)n);
        exo_buf_printf(out, "/%s", part != NULL ? part : "");
        if (part == NULL) out->failed = true;
        curl_free(part);
        path += n + (path[n] == '/');
    }
    if (strcmp(route, "tree") == 0) exo_buf_puts(out, "?recursive=1");
    if (!exo_buf_ok(out)) return exo_error_set(err, EXO_ENOMEM, "out of memory for an address");
    if (out->n < EXO_DOWNLOAD_URL_BYTES) return EXO_OK;
    return exo_error_set(err, EXO_EINVAL, "the address of %.64s is too long", p->ref.repo);
}

static exo_status ask_commit(pull *p, exo_buf *url, exo_buf *reply, exo_error *err) {
    char next[EXO_DOWNLOAD_URL_BYTES];
    p->commit[0] = '\0';
    exo_status st = hub_url(p, "revision", NULL, url, err);
    if (st == EXO_OK) st = exo_download_text(&p->host, exo_buf_str(url), reply, next, err);
    if (st == EXO_OK) st = exo_hub_commit_parse(exo_buf_str(reply), reply->n, p->commit, err);
    return st;
}

static exo_status ask_tree(pull *p, exo_buf *url, exo_buf *reply, exo_error *err) {
    char next[EXO_DOWNLOAD_URL_BYTES], at[EXO_DOWNLOAD_URL_BYTES];
    exo_status st = hub_url(p, "tree", NULL, url, err);
    exo_hub_tree_finish(&p->tree);
    if (st == EXO_OK) snprintf(next, sizeof next, "%s", exo_buf_str(url));
    for (int page = 0; st == EXO_OK && next[0] != '\0'; page++) {
        if (page == MAX_PAGES) {
            return exo_error_set(err, EXO_EUNSUPPORTED, "the hub's list has more than %d pages",
                                 MAX_PAGES);
        }
        memcpy(at, next, sizeof at);
        st = exo_download_text(&p->host, at, reply, next, err);
        if (st == EXO_OK) {
            st = exo_hub_tree_parse(exo_buf_str(reply), reply->n, &p->tree, err);
        }
    }
    return st;
}

static exo_status ask_hub(pull *p, exo_error *err) {
    exo_buf url = {0}, reply = {.limit_bytes = MAX_REPLY_BYTES};
    exo_status st = ask_commit(p, &url, &reply, err);
    if (st == EXO_OK) st = ask_tree(p, &url, &reply, err);
    exo_buf_finish(&url);
    exo_buf_finish(&reply);
    if (st != EXO_OK) return exo_error_wrap(err, st, "hf:%.80s", p->ref.repo);
    exo_hub_choice_finish(&p->choice);
    return exo_hub_choose(&p->tree, &p->ref, &p->choice, err);
}

/* A plain address is a choice of one file whose size only its server knows. */
static exo_status choose_url(pull *p, exo_error *err) {
    size_t n;
    const char *id = exo_path_id(p->ref.file, &n);
    exo_split_name split;
    if (n >= sizeof p->choice.id) {
        return exo_error_set(err, EXO_EINVAL, "the name of %.100s is too long", p->ref.file);
    }
    if (exo_path_split(p->ref.file, &split) && split.count > 1) {
        return exo_error_set(err, EXO_EUNSUPPORTED,
                             "%.100s is one of %u parts: pull such a model "
                             "by hf:OWNER/REPO:FILE",
                             p->ref.file, split.count);
    }
    exo_hub_file f = {.path = exo_strdup(p->ref.file), .bytes = EXO_SIZE_UNKNOWN};
    p->choice.files = exo_calloc(1, sizeof *p->choice.files);
    bool grown = exo_grow((void **)&p->tree.files, &p->tree.cap, 1, sizeof f) == 0;
    if (f.path == NULL || p->choice.files == NULL || !grown) {
        exo_free(f.path);
        return exo_error_set(err, EXO_ENOMEM, "out of memory for a model");
    }
    p->tree.files[p->tree.n++] = f;
    p->choice.files[p->choice.n++] = &p->tree.files[0];
    snprintf(p->choice.id, sizeof p->choice.id, "%.*s", (int)n, id);
    return EXO_OK;
}

/* ---- what is there already ---- */

static exo_status file_matches(pull *p, const char *path, const exo_hub_file *f, bool *same) {
    struct stat st;
    *same = false;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return EXO_OK;
    exo_status status = EXO_OK;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == f->bytes) {
        exo_error why;
        *same = true;
        if (f->sha256[0] != '\0') {
            status = exo_download_check(&p->host, fd, f->bytes, f->sha256, &why);
            *same = status == EXO_OK;
        }
    }
    close(fd);
    return status == EXO_ECANCELED ? status : EXO_OK;
}

/* All files of the choice in dir, as the hub has them. */
static exo_status all_match(pull *p, const char *dir, bool *same, exo_error *err) {
    char path[EXO_STORE_PATH_BYTES];
    exo_status st = EXO_OK;
    *same = true;
    for (size_t i = 0; i < p->choice.n && *same && st == EXO_OK; i++) {
        const exo_hub_file *f = p->choice.files[i];
        p->status.file = exo_hub_local_name(f->path);
        st = exo_store_path(dir, p->status.file, "", path, err);
        if (st == EXO_OK) st = file_matches(p, path, f, same);
    }
    return st == EXO_ECANCELED ? exo_error_set(err, st, "stopped") : st;
}

/* A model of this id somewhere: it is the one that is asked for, or in its way. */
static exo_status look_around(pull *p, exo_pull_result *out, exo_error *err) {
    char dir[EXO_STORE_PATH_BYTES];
    if (exo_models_resolve(p->choice.id, p->desc->data_dir, out->path, sizeof out->path, NULL) !=
        EXO_OK) {
        return EXO_OK;
    }
    bool same = false;
    if (p->ref.url[0] != '\0') { /* what only its server knows */
        exo_remote r;
        exo_status st = exo_http_probe(&p->host, p->ref.url, &r, err);
        if (st != EXO_OK) return st;
        p->tree.files[0].bytes = r.bytes;
        memcpy(p->tree.files[0].sha256, r.sha256, sizeof r.sha256);
    }
    snprintf(dir, sizeof dir, "%s", out->path);
    char *slash = p->choice.folder ? NULL : strrchr(dir, '/');
    if (slash != NULL) *slash = '\0';
    exo_status st = all_match(p, dir, &same, err);
    if (st != EXO_OK) return st;
    out->was_there = same;
    if (same) return EXO_OK;
    return exo_error_set(err, EXO_EINVAL,
                         "another model \"%.64s\" is there already (%s): exo models "
                         "rm %.64s removes it",
                         p->choice.id, exo_path_tail(out->path), p->choice.id);
}

/* ---- fetching ---- */

static exo_status sync_dir(const char *dir) {
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return EXO_EIO;
    int rc = fsync(fd);
    close(fd);
    return rc == 0 ? EXO_OK : EXO_EIO;
}

static exo_status fetch_file(pull *p, const exo_hub_file *f, exo_error *err) {
    char staged[EXO_STORE_PATH_BYTES], part[EXO_STORE_PATH_BYTES];
    struct stat info;
    exo_buf url = {0};
    p->status.file = exo_hub_local_name(f->path);
    p->status.file_done = p->status.file_total = 0;
    exo_status st = exo_store_path(p->store.staging, p->status.file, "", staged, err);
    if (st == EXO_OK) st = exo_store_path(p->store.staging, p->status.file, ".part", part, err);
    if (st == EXO_OK) st = exo_store_make_folder(&p->store, p->status.file, err);
    if (st != EXO_OK) return st;
    if (f->bytes != EXO_SIZE_UNKNOWN && stat(staged, &info) == 0) {
        bool same;
        st = file_matches(p, staged, f, &same); /* of a pull that was stopped later on */
        if (st != EXO_OK) return exo_error_set(err, st, "stopped");
        if (same) return EXO_OK;
    }
    if (p->ref.url[0] == '\0') st = hub_url(p, "resolve", f->path, &url, err);
    exo_download_file file = {.url = p->ref.url[0] != '\0' ? p->ref.url : exo_buf_str(&url),
                              .part_path = part,
                              .bytes = f->bytes,
                              .sha256 = f->sha256};
    if (st == EXO_OK) st = exo_download(&p->host, &file, err);
    exo_buf_finish(&url);
    if (st != EXO_OK) return exo_error_wrap(err, st, "%.80s", p->status.file);
    if (rename(part, staged) == 0) return EXO_OK;
    return exo_error_set(err, EXO_EIO, "cannot rename to %s: %s", exo_path_tail(staged),
                         strerror(errno));
}

/* An error page, or a file of another kind, must not become a model. */
static exo_status look_at(const pull *p, exo_error *err) {
    char path[EXO_STORE_PATH_BYTES];
    exo_gguf *g = NULL;
    const char *name = p->choice.folder ? "" : exo_hub_base_name(p->choice.files[0]->path);
    exo_status st = exo_store_path(p->store.staging, name, "", path, err);
    if (st == EXO_OK) st = exo_gguf_open(path, &g, err);
    exo_gguf_close(g);
    if (st != EXO_EFORMAT && st != EXO_EUNSUPPORTED) return st;
    if (st == EXO_EUNSUPPORTED) return EXO_OK; /* a later exo may run it */
    exo_store_discard(&p->store);
    return exo_error_wrap(err, st, "what came is no model, and was removed");
}

static exo_status fetch_all(pull *p, exo_error *err) {
    uint64_t staged = exo_store_staged_bytes(&p->store), total = p->choice.bytes;
    exo_status st = exo_store_check_space(&p->store, total > staged ? total - staged : 0, err);
    p->status.n = p->choice.n;
    p->status.total = total;
    p->before = 0;
    for (size_t i = 0; i < p->choice.n && st == EXO_OK; i++) {
        p->status.i = i;
        p->status.done = p->before;
        st = fetch_file(p, p->choice.files[i], err);
        if (total > 0) p->before += p->choice.files[i]->bytes;
    }
    if (st == EXO_OK) st = look_at(p, err);
    return st;
}

static exo_status fill_result(const pull *p, exo_pull_result *out, exo_error *err) {
    struct stat info;
    memcpy(out->id, p->choice.id, sizeof out->id);
    out->n_files = p->choice.n;
    out->bytes = p->choice.bytes;
    if (!out->was_there) {
        const char *name =
            p->choice.folder ? p->choice.id : exo_hub_base_name(p->choice.files[0]->path);
        exo_status st = exo_store_path(p->store.models, name, "", out->path, err);
        if (st != EXO_OK) return st;
    }
    if (p->ref.url[0] != '\0' && stat(out->path, &info) == 0) out->bytes = (uint64_t)info.st_size;
    return EXO_OK;
}

/* The model by the choice that was made.  Under the lock, all of it. */
static exo_status fetch_choice(pull *p, const char *ref, exo_pull_result *out, exo_error *err) {
    exo_status st = exo_store_open(p->desc->data_dir, p->choice.id, &p->store, err);
    if (st != EXO_OK) return st;
    st = look_around(p, out, err);
    if (st == EXO_OK && !out->was_there) {
        st = exo_store_note(&p->store, ref, p->choice.bytes, err);
        if (st == EXO_OK) st = fetch_all(p, err);
        if (st == EXO_OK) st = exo_store_publish(&p->store, &p->choice, err);
        if (st == EXO_OK) (void)sync_dir(p->store.models);
    }
    if (st == EXO_OK) st = fill_result(p, out, err);
    exo_store_close(&p->store);
    return st;
}

/* ---- the whole ---- */

static exo_status set_up(pull *p, const exo_pull_desc *desc, exo_error *err) {
    const char *endpoint = desc->endpoint, *token = desc->token, *offline = getenv("EXO_OFFLINE");
    if (offline != NULL && *offline != '\0' && strcmp(offline, "0") != 0) {
        return exo_error_set(err, EXO_EUNSUPPORTED, "EXO_OFFLINE is set: nothing is fetched");
    }
    if (endpoint == NULL || *endpoint == '\0') endpoint = getenv("HF_ENDPOINT");
    if (endpoint == NULL || *endpoint == '\0') endpoint = DEFAULT_ENDPOINT;
    if (token == NULL) token = getenv("HF_TOKEN");
    size_t n = strlen(endpoint);
    while (n > 0 && endpoint[n - 1] == '/') n--;
    bool web = strncmp(endpoint, "http://", 7) == 0 || strncmp(endpoint, "https://", 8) == 0;
    if (!web || n >= sizeof p->endpoint) {
        return exo_error_set(err, EXO_EINVAL,
                             "HF_ENDPOINT is no address that begins with https://");
    }
    if (token != NULL && strpbrk(token, "\r\n") != NULL) {
        return exo_error_set(err, EXO_EINVAL, "HF_TOKEN has a line break in it");
    }
    memcpy(p->endpoint, endpoint, n);
    p->desc = desc;
    p->store.lock = -1;
    p->status.file = "";
    p->host = (exo_download_host){.endpoint = p->endpoint,
                                  .token = token,
                                  .stall_s = desc->stall_s,
                                  .n_connections = desc->n_connections,
                                  .progress = on_progress,
                                  .ud = p};
    return EXO_OK;
}

exo_status exo_pull(const char *ref, const exo_pull_desc *desc, exo_pull_result *out,
                    exo_error *err) {
    *out = (exo_pull_result){0};
    pull *p = exo_calloc(1, sizeof *p);
    if (p == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a pull");
    exo_status st = exo_hub_ref_parse(ref, &p->ref, err);
    if (st == EXO_OK) st = set_up(p, desc, err);
    if (st == EXO_OK && p->ref.url[0] != '\0') {
        st = choose_url(p, err);
        if (st == EXO_OK) st = fetch_choice(p, ref, out, err);
    } else if (st == EXO_OK) {
        for (int i = 0; i < MAX_ATTEMPTS; i++) {
            st = ask_hub(p, err);
            if (st == EXO_OK) st = fetch_choice(p, ref, out, err);
            if (st != EXO_EPEER) break;
        }
    }
    exo_hub_choice_finish(&p->choice);
    exo_hub_tree_finish(&p->tree);
    exo_free(p);
    return st;
}
