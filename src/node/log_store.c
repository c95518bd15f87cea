/* log_store.c - the cluster's log in SQLite; see log_store.h.
 *
 *   meta       key, value        format, session, writes, cluster, log_id, member, term, vote,
 *                                carry, sum
 *   snapshots  idx, term, config, image, sum       the last two
 *   entries    idx, term, kind, bytes, sum
 *
 * `sum` is hash64 over the row's other columns; meta's is over log_id, member, term and vote.
 * `writes` counts the transactions; how many there must be is in cluster.mark. */
#define _DEFAULT_SOURCE
#include "node/log_store.h"

#include "base/arena.h"
#include "base/hash.h"
#include "base/le.h"
#include "base/log.h"
#include "base/mem.h"
#include "node/log_mark.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FORMAT         1
#define BUSY_MS        2000 /* a node that is just ending lets go */
#define KEPT_SNAPSHOTS 2
#define PATH_BYTES     1200

struct exo_log_store {
    sqlite3 *db;
    char path[PATH_BYTES];
    uint64_t session, n_writes;
    exo_log_mark mark;
    exo_arena arena; /* of found */
    exo_cluster_stored found;
    bool was_there; /* the file, before it was opened */
    bool damaged;
    char what[128]; /* is damaged */
    char trouble[3 * EXO_ERROR_BYTES];
};

static const char *const schema =
    "CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS snapshots(idx INTEGER PRIMARY KEY, term INTEGER NOT NULL,"
    " config BLOB NOT NULL, image BLOB NOT NULL, sum INTEGER NOT NULL);"
    "CREATE TABLE IF NOT EXISTS entries(idx INTEGER PRIMARY KEY, term INTEGER NOT NULL,"
    " kind INTEGER NOT NULL, bytes BLOB NOT NULL, sum INTEGER NOT NULL);";

/* ---- SQLite ---- */

static exo_status refused(exo_log_store *s, exo_error *err) {
    int code = sqlite3_errcode(s->db);
    if (code == SQLITE_BUSY || code == SQLITE_LOCKED) {
        return exo_error_set(err, EXO_EBUSY,
                             "another exo node uses %s; give each node a --data-dir of its own",
                             s->path);
    }
    return exo_error_set(err, EXO_EIO, "%s: %s%s", s->path, sqlite3_errmsg(s->db),
                         code == SQLITE_FULL ? "; make room on this disk" : "");
}

static bool is_damage(const exo_log_store *s) {
    int code = sqlite3_errcode(s->db);
    return code == SQLITE_CORRUPT || code == SQLITE_NOTADB;
}

static void note_damage(exo_log_store *s, const char *what) {
    if (!s->damaged) snprintf(s->what, sizeof s->what, "%s", what);
    s->damaged = true;
}

static exo_status run(exo_log_store *s, const char *sql, exo_error *err) {
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? EXO_OK : refused(s, err);
}

/* Values of one row to be written: i = integer, b = bytes. */
typedef struct {
    const void *bytes;
    size_t n;
    uint64_t number;
    bool is_bytes;
} value;

static value number(uint64_t v) { return (value){.number = v}; }
static value bytes(const void *p, size_t n) {
    return (value){.bytes = p != NULL ? p : "", .n = n, .is_bytes = true};
}

static exo_status put(exo_log_store *s, const char *sql, const value *v, int n, exo_error *err) {
    sqlite3_stmt *q = NULL;
    int r = sqlite3_prepare_v2(s->db, sql, -1, &q, NULL);
    for (int i = 0; i < n && r == SQLITE_OK; i++) {
        r = v[i].is_bytes ? sqlite3_bind_blob64(q, i + 1, v[i].bytes, v[i].n, SQLITE_STATIC)
                          : sqlite3_bind_int64(q, i + 1, (sqlite3_int64)v[i].number);
    }
    if (r == SQLITE_OK) r = sqlite3_step(q);
    sqlite3_finalize(q);
    return r == SQLITE_DONE ? EXO_OK : refused(s, err);
}

static exo_status put_meta(exo_log_store *s, const char *key, value v, exo_error *err) {
    char sql[96];
    snprintf(sql, sizeof sql, "INSERT OR REPLACE INTO meta VALUES('%s', ?)", key);
    return put(s, sql, &v, 1, err);
}

static uint64_t get_meta(exo_log_store *s, const char *key) {
    sqlite3_stmt *q = NULL;
    uint64_t v = 0;
    if (sqlite3_prepare_v2(s->db, "SELECT value FROM meta WHERE key = ?", -1, &q, NULL) ==
            SQLITE_OK &&
        sqlite3_bind_text(q, 1, key, -1, SQLITE_STATIC) == SQLITE_OK &&
        sqlite3_step(q) == SQLITE_ROW) {
        v = (uint64_t)sqlite3_column_int64(q, 0);
    }
    if (is_damage(s)) note_damage(s, sqlite3_errmsg(s->db));
    sqlite3_finalize(q);
    return v;
}

/* ---- checksums ---- */

static uint64_t sum_of(const uint64_t *numbers, size_t n, const void *a, size_t n_a, const void *b,
                       size_t n_b) {
    uint8_t head[8 * 6];
    for (size_t i = 0; i < n; i++) exo_put_u64(head + 8 * i, numbers[i]);
    uint64_t h = exo_hash64(head, 8 * n, n);
    if (n_a > 0) h = exo_hash64(a, n_a, h);
    return n_b > 0 ? exo_hash64(b, n_b, h) : h;
}

static uint64_t meta_sum(const exo_cluster_stored *f) {
    const uint64_t n[] = {f->log_id, f->member, f->term, f->vote};
    return sum_of(n, 4, NULL, 0, NULL, 0);
}

static uint64_t entry_sum(const exo_raft_entry *e) {
    const uint64_t n[] = {e->index, e->term, (uint64_t)e->kind};
    return sum_of(n, 3, e->bytes, e->n_bytes, NULL, 0);
}

static uint64_t snapshot_sum(const exo_raft_snapshot *p) {
    const uint64_t n[] = {p->index, p->term, p->n_config};
    return sum_of(n, 3, p->config, p->n_config, p->image, p->n_image);
}

/* ---- reading ---- */

static uint8_t *column(exo_log_store *s, sqlite3_stmt *q, int i, uint32_t *n) {
    const void *p = sqlite3_column_blob(q, i);
    *n = (uint32_t)sqlite3_column_bytes(q, i);
    uint8_t *copy = exo_arena_alloc(&s->arena, *n > 0 ? *n : 1);
    if (copy != NULL && *n > 0) memcpy(copy, p, *n);
    return copy;
}

static bool is_good(const exo_raft_snapshot *p, uint64_t sum) {
    exo_state probe;
    exo_raft_member *m = exo_calloc(EXO_RAFT_MAX_MEMBERS, sizeof *m);
    uint32_t n;
    bool good = m != NULL && p->index > 0 && snapshot_sum(p) == sum &&
                exo_raft_config_read(p->config, p->n_config, m, &n, NULL) == EXO_OK &&
                exo_state_read(p->image, p->n_image, &probe, NULL) == EXO_OK;
    if (good) exo_state_finish(&probe);
    exo_free(m);
    return good;
}

/* The newest snapshot that is whole. */
static void read_snapshot(exo_log_store *s) {
    sqlite3_stmt *q = NULL;
    int r = sqlite3_prepare_v2(
        s->db, "SELECT idx, term, config, image, sum FROM snapshots ORDER BY idx DESC", -1, &q,
        NULL);
    exo_raft_snapshot *p = exo_arena_zalloc(&s->arena, 1, sizeof *p);
    while (r == SQLITE_OK && p != NULL && s->found.snapshot == NULL &&
           sqlite3_step(q) == SQLITE_ROW) {
        p->index = (uint64_t)sqlite3_column_int64(q, 0);
        p->term = (uint64_t)sqlite3_column_int64(q, 1);
        p->config = column(s, q, 2, &p->n_config);
        p->image = column(s, q, 3, &p->n_image);
        if (!exo_arena_ok(&s->arena)) break;
        if (is_good(p, (uint64_t)sqlite3_column_int64(q, 4))) {
            s->found.snapshot = p;
        } else {
            note_damage(s, "a snapshot does not have its checksum");
        }
    }
    if (is_damage(s)) note_damage(s, sqlite3_errmsg(s->db));
    sqlite3_finalize(q);
}

static bool read_entry(exo_log_store *s, sqlite3_stmt *q, const exo_raft_entry *before,
                       exo_raft_entry *e) {
    int64_t kind = sqlite3_column_int64(q, 2);
    e->index = (uint64_t)sqlite3_column_int64(q, 0);
    e->term = (uint64_t)sqlite3_column_int64(q, 1);
    e->kind = (exo_raft_entry_kind)kind;
    e->bytes = column(s, q, 3, &e->n_bytes);
    if (e->bytes == NULL || kind < EXO_RAFT_NOOP || kind > EXO_RAFT_CONFIG) return false;
    return e->index == before->index + 1 && e->term >= before->term &&
           entry_sum(e) == (uint64_t)sqlite3_column_int64(q, 4);
}

static void read_entries(exo_log_store *s) {
    sqlite3_stmt *q = NULL;
    exo_raft_entry *list = NULL;
    size_t cap = 0, n = 0;
    exo_raft_entry before = {.index = s->found.snapshot->index, .term = s->found.snapshot->term};
    int r = sqlite3_prepare_v2(s->db,
                               "SELECT idx, term, kind, bytes, sum FROM entries WHERE idx > ? "
                               "ORDER BY idx",
                               -1, &q, NULL);
    if (r == SQLITE_OK) r = sqlite3_bind_int64(q, 1, (sqlite3_int64)before.index);
    while (r == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW) {
        exo_raft_entry e = {0};
        if (!read_entry(s, q, &before, &e)) {
            note_damage(s, "an entry is missing or does not have its checksum");
            break;
        }
        if (exo_grow((void **)&list, &cap, n + 1, sizeof *list) != 0) break;
        list[n++] = before = e;
    }
    if (is_damage(s)) note_damage(s, sqlite3_errmsg(s->db));
    sqlite3_finalize(q);
    exo_raft_entry *kept = exo_arena_zalloc(&s->arena, n + 1, sizeof *kept);
    if (kept != NULL && n > 0) memcpy(kept, list, n * sizeof *list);
    exo_free(list);
    s->found.entries = kept;
    s->found.n_entries = (uint32_t)n;
    if (before.term > s->found.term) {
        note_damage(s, "the term is older than the log");
        s->found.term = before.term;
    }
}

static void read_carry(exo_log_store *s) {
    sqlite3_stmt *q = NULL;
    if (sqlite3_prepare_v2(s->db, "SELECT value FROM meta WHERE key = 'carry'", -1, &q, NULL) ==
            SQLITE_OK &&
        sqlite3_step(q) == SQLITE_ROW) {
        s->found.carry = column(s, q, 0, &s->found.n_carry);
    }
    sqlite3_finalize(q);
    exo_state probe;
    if (s->found.n_carry == 0) return;
    if (exo_state_read(s->found.carry, s->found.n_carry, &probe, NULL) == EXO_OK) {
        exo_state_finish(&probe);
        return;
    }
    s->found.n_carry = 0;
    note_damage(s, "what was carried is not readable");
}

/* Whether all is there that was ever promised. */
static void check_writes(exo_log_store *s) {
    char what[96];
    if (s->n_writes >= s->mark.n_writes) return;
    snprintf(what, sizeof what, "the last %llu of %llu writes are missing, most likely of its -wal",
             (unsigned long long)(s->mark.n_writes - s->n_writes),
             (unsigned long long)s->mark.n_writes);
    note_damage(s, what);
}

/* Everything that is whole; what is not sets `damaged`. */
static exo_status read_all(exo_log_store *s, exo_error *err) {
    exo_cluster_stored *f = &s->found;
    uint64_t format = get_meta(s, "format");
    if (format > FORMAT) {
        return exo_error_set(err, EXO_EUNSUPPORTED, "%s is of a newer exo (format %llu)", s->path,
                             (unsigned long long)format);
    }
    f->log_id = get_meta(s, "log_id");
    f->member = get_meta(s, "member");
    f->term = get_meta(s, "term");
    f->vote = get_meta(s, "vote");
    if (f->log_id != 0 && get_meta(s, "sum") != meta_sum(f)) {
        note_damage(s, "term and vote do not have their checksum");
    }
    check_writes(s);
    read_snapshot(s);
    if (f->snapshot != NULL) read_entries(s);
    read_carry(s);
    if (!exo_arena_ok(&s->arena)) {
        return exo_error_set(err, EXO_ENOMEM, "no memory for the cluster's log");
    }
    if (f->snapshot == NULL && s->damaged) f->log_id = 0; /* nothing to go on from */
    if (f->log_id != 0 && f->member == 0) f->log_id = 0;
    f->damaged = s->damaged && f->log_id != 0;
    return EXO_OK;
}

/* ---- opening ---- */

static exo_status make_private(const char *path, exo_error *err) {
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return exo_error_set(err, EXO_EIO, "cannot open %s: %s", path, strerror(errno));
    int r = fchmod(fd, 0600), why = errno;
    close(fd);
    return r == 0 ? EXO_OK
                  : exo_error_set(err, EXO_EIO, "cannot protect %s: %s", path, strerror(why));
}

static void close_db(exo_log_store *s) {
    sqlite3_close(s->db);
    s->db = NULL;
}

static exo_status open_db(exo_log_store *s, exo_error *err) {
    s->was_there = access(s->path, F_OK) == 0;
    exo_status st = make_private(s->path, err);
    if (st != EXO_OK) return st;
    if (sqlite3_open_v2(s->path, &s->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE,
                        NULL) != SQLITE_OK) {
        return s->db != NULL ? refused(s, err)
                             : exo_error_set(err, EXO_ENOMEM, "no memory for SQLite");
    }
    sqlite3_busy_timeout(s->db, BUSY_MS);
    st = run(s, "PRAGMA locking_mode = EXCLUSIVE", err);
    if (st == EXO_OK) st = run(s, "PRAGMA journal_mode = WAL", err);
    if (st == EXO_OK) st = run(s, "PRAGMA synchronous = FULL", err);
    if (st == EXO_OK) st = run(s, "PRAGMA cell_size_check = ON", err);
    if (st == EXO_OK) st = run(s, schema, err);
    return st;
}

/* Moves file and journal aside; the next one of this kind overwrites it. */
static exo_status set_aside(exo_log_store *s, const char *kind, char *aside, size_t cap,
                            exo_error *err) {
    char from[PATH_BYTES + 8], to[PATH_BYTES + 16];
    snprintf(aside, cap, "%s.%s", s->path, kind);
    snprintf(from, sizeof from, "%s-wal", s->path);
    snprintf(to, sizeof to, "%s-wal", aside);
    if (rename(from, to) != 0) unlink(to);
    if (rename(s->path, aside) == 0) return EXO_OK;
    return exo_error_set(err, EXO_EIO, "cannot move %s to %s: %s", s->path, aside, strerror(errno));
}

static exo_status start_anew(exo_log_store *s, exo_error *err) {
    char aside[PATH_BYTES + 16];
    if (s->db != NULL) { /* what is put aside stays as it was found */
        sqlite3_db_config(s->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    }
    close_db(s);
    exo_status st = set_aside(s, "damaged", aside, sizeof aside, err);
    if (st == EXO_OK) st = open_db(s, err);
    if (st != EXO_OK) return st;
    const exo_cluster_stored *f = &s->found;
    char from[64] = "nothing: it begins a new log";
    if (f->log_id != 0) {
        uint64_t last = f->snapshot->index + f->n_entries;
        snprintf(from, sizeof from, "entry %llu", (unsigned long long)last);
    }
    snprintf(s->trouble, sizeof s->trouble,
             "the cluster's log %.240s is damaged (%s); it was moved to %.240s, and this node goes "
             "on from %s",
             s->path, s->what, aside, from);
    exo_warn("%s", s->trouble);
    return EXO_OK;
}

/* Nothing of another cluster's log counts in this one. */
static exo_status leave_behind(exo_log_store *s, exo_error *err) {
    char aside[PATH_BYTES + 16];
    close_db(s);
    exo_status st = set_aside(s, "left", aside, sizeof aside, err);
    if (st == EXO_OK) st = open_db(s, err);
    if (st != EXO_OK) return st;
    exo_info("the log in %s was another cluster's: it was moved to %s, and this node begins with "
             "an empty log",
             s->path, aside);
    return EXO_OK;
}

/* Ends the transaction: one more write, on disk here and in the mark; or none, when st says so. */
static exo_status commit(exo_log_store *s, exo_status st, exo_error *err) {
    if (st == EXO_OK) st = put_meta(s, "writes", number(s->n_writes + 1), err);
    if (st == EXO_OK) st = run(s, "COMMIT", err);
    if (st == EXO_OK) return exo_log_mark_write(&s->mark, ++s->n_writes, err);
    sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    return st;
}

static exo_status note_session(exo_log_store *s, uint64_t before, uint64_t cluster,
                               exo_error *err) {
    s->session = before + 1;
    if (s->n_writes < s->mark.n_writes) s->n_writes = s->mark.n_writes; /* of an earlier file */
    exo_status st = run(s, "BEGIN IMMEDIATE", err);
    if (st != EXO_OK) return st;
    st = put_meta(s, "format", number(FORMAT), err);
    if (st == EXO_OK) st = put_meta(s, "session", number(s->session), err);
    if (st == EXO_OK) st = put_meta(s, "cluster", number(cluster), err);
    return commit(s, st, err);
}

/* Session and owner of the file, and what is in it if the owner is `cluster`. */
static exo_status look_inside(exo_log_store *s, uint64_t cluster, uint64_t *session,
                              exo_error *err) {
    *session = get_meta(s, "session");
    s->n_writes = get_meta(s, "writes");
    if (*session == 0 && s->was_there) { /* SQLite takes an empty file, or journal, for a new one */
        note_damage(s, "it is there, but nothing is in it");
        return EXO_OK;
    }
    if (s->n_writes > 0 && !s->mark.whole) {
        exo_warn("%s is missing or damaged: if the log beside it has lost its last writes, too, "
                 "nothing tells; a new one is made",
                 s->mark.path);
    }
    uint64_t owner = get_meta(s, "cluster"); /* 0: of a version that did not note it */
    if (owner == 0 || owner == cluster) return read_all(s, err);
    s->damaged = false;
    return leave_behind(s, err);
}

exo_status exo_log_store_open(const char *data_dir, uint64_t cluster, exo_log_store **out,
                              exo_error *err) {
    *out = NULL;
    exo_error mine;
    if (err == NULL) err = &mine;
    exo_log_store *s = exo_calloc(1, sizeof *s);
    if (s == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for the cluster's log");
    int n = snprintf(s->path, sizeof s->path, "%s/cluster.db", data_dir);
    exo_status st = exo_log_mark_open(data_dir, &s->mark, err);
    if (st == EXO_OK && (n < 0 || (size_t)n >= sizeof s->path - 32)) {
        st = exo_error_set(err, EXO_EINVAL, "the data directory's path is too long");
    }
    if (st == EXO_OK) st = open_db(s, err);
    uint64_t session = 0;
    if (st == EXO_OK) {
        st = look_inside(s, cluster, &session, err);
    } else if (s->db != NULL && is_damage(s)) {
        note_damage(s, sqlite3_errmsg(s->db));
        st = EXO_OK;
    } else if (st == EXO_EIO && !s->was_there) { /* not filled: no damage at the next start */
        close_db(s);
        unlink(s->path);
    }
    if (st == EXO_OK && s->damaged) st = start_anew(s, err);
    if (st == EXO_OK) st = note_session(s, session, cluster, err);
    if (st != EXO_OK) {
        exo_log_store_close(s);
        return st;
    }
    *out = s;
    return EXO_OK;
}

void exo_log_store_close(exo_log_store *s) {
    if (s == NULL) return;
    close_db(s);
    exo_log_mark_close(&s->mark);
    exo_arena_finish(&s->arena);
    exo_free(s);
}

const exo_cluster_stored *exo_log_store_found(const exo_log_store *s) { return &s->found; }
const char *exo_log_store_trouble(const exo_log_store *s) { return s->trouble; }
uint64_t exo_log_store_session(const exo_log_store *s) { return s->session; }

void exo_log_store_forget(exo_log_store *s) {
    uint64_t keep[] = {s->found.log_id, s->found.member, s->found.term, s->found.vote};
    exo_arena_finish(&s->arena);
    s->found = (exo_cluster_stored){
        .log_id = keep[0], .member = keep[1], .term = keep[2], .vote = keep[3]};
}

/* ---- writing ---- */

/* log_id, member, term and vote stand in s->found while the file is open. */
static exo_status write_names(exo_log_store *s, exo_error *err) {
    exo_status st = put_meta(s, "log_id", number(s->found.log_id), err);
    if (st == EXO_OK) st = put_meta(s, "member", number(s->found.member), err);
    if (st == EXO_OK) st = put_meta(s, "term", number(s->found.term), err);
    if (st == EXO_OK) st = put_meta(s, "vote", number(s->found.vote), err);
    return st == EXO_OK ? put_meta(s, "sum", number(meta_sum(&s->found)), err) : st;
}

static exo_status write_log(exo_log_store *s, const exo_cluster_action *a, exo_error *err) {
    s->found.log_id = a->log_id;
    s->found.member = a->member;
    s->found.term = s->found.vote = 0;
    exo_status st = run(s, "DELETE FROM entries; DELETE FROM snapshots", err);
    if (st == EXO_OK) st = put_meta(s, "carry", bytes(a->bytes, a->n_bytes), err);
    return st == EXO_OK ? write_names(s, err) : st;
}

static exo_status write_entries(exo_log_store *s, const exo_cluster_action *a, exo_error *err) {
    value from = number(a->entries[0].index);
    exo_status st = put(s, "DELETE FROM entries WHERE idx >= ?", &from, 1, err);
    for (uint32_t i = 0; i < a->n_entries && st == EXO_OK; i++) {
        const exo_raft_entry *e = &a->entries[i];
        const value v[] = {number(e->index), number(e->term), number((uint64_t)e->kind),
                           bytes(e->bytes, e->n_bytes), number(entry_sum(e))};
        st = put(s, "INSERT INTO entries VALUES(?, ?, ?, ?, ?)", v, 5, err);
    }
    return st;
}

static exo_status write_snapshot(exo_log_store *s, const exo_cluster_action *a, exo_error *err) {
    const exo_raft_snapshot *p = a->snapshot;
    const value v[] = {number(p->index), number(p->term), bytes(p->config, p->n_config),
                       bytes(p->image, p->n_image), number(snapshot_sum(p))};
    exo_status st = put(s, "INSERT OR REPLACE INTO snapshots VALUES(?, ?, ?, ?, ?)", v, 5, err);
    char drop[128];
    snprintf(drop, sizeof drop,
             "DELETE FROM snapshots WHERE idx NOT IN (SELECT idx FROM snapshots ORDER BY idx DESC "
             "LIMIT %d)",
             KEPT_SNAPSHOTS);
    if (st == EXO_OK) st = run(s, drop, err);
    value index = number(p->index);
    if (st == EXO_OK && a->keep) st = put(s, "DELETE FROM entries WHERE idx <= ?", &index, 1, err);
    if (st == EXO_OK && !a->keep) st = run(s, "DELETE FROM entries", err);
    return st;
}

static exo_status write_one(exo_log_store *s, const exo_cluster_action *a, exo_error *err) {
    switch (a->kind) {
    case EXO_CLUSTER_PERSIST_LOG: return write_log(s, a, err);
    case EXO_CLUSTER_PERSIST_VOTE:
        s->found.term = a->term;
        s->found.vote = a->vote;
        return write_names(s, err);
    case EXO_CLUSTER_PERSIST_ENTRIES: return write_entries(s, a, err);
    case EXO_CLUSTER_PERSIST_SNAPSHOT: return write_snapshot(s, a, err);
    case EXO_CLUSTER_PERSIST_CARRY: return put_meta(s, "carry", bytes(a->bytes, a->n_bytes), err);
    default: return EXO_OK;
    }
}

exo_status exo_log_store_write(exo_log_store *s, const exo_cluster_actions *a, exo_error *err) {
    exo_error mine;
    if (err == NULL) err = &mine;
    bool any = false;
    for (size_t i = 0; i < a->n && !any; i++) {
        any = a->items[i].kind <= EXO_CLUSTER_PERSIST_CARRY;
    }
    if (!any) return EXO_OK;
    exo_status st = run(s, "BEGIN IMMEDIATE", err);
    if (st != EXO_OK) return st;
    for (size_t i = 0; i < a->n && st == EXO_OK; i++) st = write_one(s, &a->items[i], err);
    return commit(s, st, err);
}
