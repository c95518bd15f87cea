/* log_store_test.c - what the cluster's log keeps: across restarts, damage, and a full disk. */
#define _GNU_SOURCE
#include "node/log_store.h"

#include "base/log.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define CLUSTER 77u

static uint32_t kept_entries = 8;
static char dir[96], file[128];

/* A cluster of one whose log is kept, as the node drives it. */
typedef struct {
    exo_log_store *store;
    exo_cluster *cluster;
    exo_cluster_actions actions;
    uint64_t now_ms;
} keeper;

static exo_status step(keeper *k, const exo_cluster_input *in) {
    assert_int_equal(exo_cluster_step(k->cluster, in, ++k->now_ms, &k->actions, NULL), EXO_OK);
    return exo_log_store_write(k->store, &k->actions, NULL);
}

static void begin(keeper *k) {
    exo_error err = {0};
    *k = (keeper){.now_ms = 10};
    if (exo_log_store_open(dir, CLUSTER, &k->store, &err) != EXO_OK) fail_msg("%s", err.message);
    exo_cluster_desc d = {.node = 5,
                          .name = "n",
                          .voter_ok = true,
                          .alone = true,
                          .seed = 1,
                          .kept_entries = kept_entries,
                          .session = exo_log_store_session(k->store),
                          .unix_ms = 1000,
                          .stored = *exo_log_store_found(k->store)};
    if (exo_cluster_create(&d, 10, &k->cluster, &err) != EXO_OK) fail_msg("%s", err.message);
    exo_log_store_forget(k->store);
    assert_int_equal(step(k, &(exo_cluster_input){.kind = EXO_CLUSTER_TICK}), EXO_OK);
}

static void end(keeper *k) {
    exo_cluster_destroy(k->cluster);
    exo_cluster_actions_finish(&k->actions);
    exo_log_store_close(k->store);
}

static exo_status create_instance(keeper *k, int i) {
    exo_event e = {.type = EXO_EVENT_INSTANCE_CREATED, .node = 5, .min_nodes = 1};
    snprintf(e.instance, sizeof e.instance, "instance-%d", i);
    snprintf(e.model_id, sizeof e.model_id, "tiny");
    return step(k, &(exo_cluster_input){.kind = EXO_CLUSTER_PROPOSE, .event = &e});
}

static size_t n_instances(const keeper *k) { return exo_cluster_state_of(k->cluster)->n_instances; }

static int fresh_dir(void **state) {
    (void)state;
    exo_log_set(EXO_LOG_ERROR); /* damage is warned of */
    strcpy(dir, "/tmp/exo-test-XXXXXX");
    if (mkdtemp(dir) == NULL) return -1;
    snprintf(file, sizeof file, "%s/cluster.db", dir);
    return 0;
}

static int remove_dir(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

static void spoil(const char *text) {
    char path[128], bytes[65536];
    snprintf(path, sizeof path, "%s", file);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    ssize_t n = read(fd, bytes, sizeof bytes);
    assert_true(n > 0);
    char *at = memmem(bytes, (size_t)n, text, strlen(text));
    assert_non_null(at);
    at[1] ^= 1;
    assert_int_equal(pwrite(fd, bytes, (size_t)n, 0), n);
    close(fd);
}

static void test_what_was_written_is_there_again(void **state) {
    (void)state;
    keeper k;
    struct stat info;
    uint64_t log_id = 0;
    for (int run = 0; run < 5; run++) {
        begin(&k);
        if (run > 0) assert_int_equal(exo_cluster_log_id(k.cluster), log_id);
        log_id = exo_cluster_log_id(k.cluster);
        assert_int_equal(exo_log_store_session(k.store), run + 1);
        assert_int_equal(exo_cluster_term(k.cluster), (2 + run) * (int)EXO_CLUSTER_TERM_STEP);
        for (int i = 0; i < 7; i++) assert_int_equal(create_instance(&k, 10 * run + i), EXO_OK);
        assert_int_equal(n_instances(&k), 7 * (run + 1));
        end(&k);
    }
    assert_int_equal(stat(file, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_true(info.st_size < 200000);
}

static void test_one_process_has_the_file(void **state) {
    (void)state;
    keeper k;
    exo_log_store *second;
    exo_error err = {0};
    begin(&k);
    assert_int_equal(exo_log_store_open(dir, CLUSTER, &second, &err), EXO_EBUSY);
    assert_null(second);
    assert_non_null(strstr(err.message, "--data-dir"));
    end(&k);
}

static void test_a_damaged_entry_ends_the_log_there(void **state) {
    (void)state;
    keeper k;
    begin(&k);
    for (int i = 0; i < 3; i++) create_instance(&k, i);
    uint64_t log_id = exo_cluster_log_id(k.cluster), term = exo_cluster_term(k.cluster);
    end(&k);
    spoil("instance-1");
    begin(&k);
    assert_int_equal(n_instances(&k), 1);
    assert_int_not_equal(exo_cluster_log_id(k.cluster), log_id); /* a fork, under a new name */
    assert_true(exo_cluster_term(k.cluster) > term);
    assert_int_equal(create_instance(&k, 9), EXO_OK);
    end(&k);
    begin(&k);
    assert_int_equal(n_instances(&k), 2);
    end(&k);
}

/* One byte of the state in the newest snapshots; returns how many snapshots there are. */
static int spoil_snapshots(int n_newest) {
    static const char count[] = "SELECT count(*) FROM snapshots";
    char change[200];
    sqlite3 *db;
    sqlite3_stmt *q;
    snprintf(change, sizeof change,
             "UPDATE snapshots SET image = CAST('x' || substr(image, 2) AS BLOB) WHERE idx IN "
             "(SELECT idx FROM snapshots ORDER BY idx DESC LIMIT %d)",
             n_newest);
    assert_int_equal(sqlite3_open(file, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, change, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, count, -1, &q, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    int n = sqlite3_column_int(q, 0);
    sqlite3_finalize(q);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    return n;
}

static void test_the_last_good_snapshot_is_used(void **state) {
    (void)state;
    keeper k;
    begin(&k);
    for (int i = 0; i < 40; i++) create_instance(&k, i);
    uint64_t log_id = exo_cluster_log_id(k.cluster);
    end(&k);
    assert_int_equal(spoil_snapshots(1), 2);
    begin(&k);
    assert_non_null(strstr(exo_log_store_trouble(k.store), "a snapshot does not have its"));
    size_t n = n_instances(&k); /* of the one before: what came behind it is lost */
    assert_true(n >= 40 - 3 * kept_entries && n < 40);
    assert_int_not_equal(exo_cluster_log_id(k.cluster), log_id); /* a fork, under a new name */
    assert_int_equal(create_instance(&k, 50), EXO_OK);
    end(&k);
    begin(&k);
    assert_string_equal(exo_log_store_trouble(k.store), "");
    assert_int_equal(n_instances(&k), n + 1);
    end(&k);
}

static void test_without_a_good_snapshot_a_log_is_begun_anew(void **state) {
    (void)state;
    keeper k;
    begin(&k);
    for (int i = 0; i < 40; i++) create_instance(&k, i);
    uint64_t session = exo_log_store_session(k.store);
    end(&k);
    assert_int_equal(spoil_snapshots(2), 2);
    begin(&k);
    assert_string_not_equal(exo_log_store_trouble(k.store), "");
    assert_int_equal(n_instances(&k), 0);
    assert_true(exo_log_store_session(k.store) > session);
    assert_int_equal(create_instance(&k, 50), EXO_OK);
    end(&k);
}

static void test_another_clusters_log_is_put_aside(void **state) {
    (void)state;
    keeper k;
    exo_log_store *store;
    char aside[128];
    struct stat info;
    begin(&k);
    for (int i = 0; i < 3; i++) create_instance(&k, i);
    end(&k);
    exo_error err = {0};
    if (exo_log_store_open(dir, CLUSTER + 1, &store, &err) != EXO_OK) fail_msg("%s", err.message);
    assert_int_equal(exo_log_store_found(store)->log_id, 0);
    assert_null(exo_log_store_found(store)->snapshot);
    assert_int_equal(exo_log_store_session(store), 2); /* never lower */
    exo_log_store_close(store);
    snprintf(aside, sizeof aside, "%s.left", file);
    assert_int_equal(stat(aside, &info), 0);
    begin(&k); /* and the other way round */
    assert_int_equal(n_instances(&k), 0);
    assert_int_equal(create_instance(&k, 9), EXO_OK);
    end(&k);
    begin(&k);
    assert_int_equal(n_instances(&k), 1);
    end(&k);
}

/* ---- what a power cut leaves: a journal that was not taken into the file ---- */

/* What is on disk now, as another node would find it after this one was killed. */
static void copy_as_it_is(const char *to) {
    char command[256];
    snprintf(command, sizeof command, "mkdir %s && cp %s/cluster.* %s", to, dir, to);
    assert_int_equal(system(command), 0); /* not from here: SQLite's locks are this process's */
}

typedef enum { AS_IT_IS, FLIPPED, CUT, GONE } journal_fault;

static void spoil_journal(const char *to, journal_fault fault) {
    char path[128];
    struct stat info;
    uint8_t byte;
    snprintf(path, sizeof path, "%s/cluster.db-wal", to);
    assert_int_equal(stat(path, &info), 0);
    assert_true(info.st_size > 10000);
    if (fault == GONE) assert_int_equal(unlink(path), 0);
    if (fault == CUT) assert_int_equal(truncate(path, info.st_size - 5000), 0);
    if (fault != FLIPPED) return;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, info.st_size / 2), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, info.st_size / 2), 1);
    close(fd);
}

static void test_a_damaged_journal_is_noticed(void **state) {
    (void)state;
    keeper k;
    char home[64], to[96];
    begin(&k); /* so that the file has something without its journal */
    for (int i = 0; i < 3; i++) create_instance(&k, i);
    end(&k);
    begin(&k);
    for (int i = 3; i < 8; i++) create_instance(&k, i);
    snprintf(home, sizeof home, "%.60s", dir);
    uint64_t log_id = exo_cluster_log_id(k.cluster);
    for (int fault = AS_IT_IS; fault <= GONE; fault++) {
        keeper after;
        snprintf(to, sizeof to, "%s/%d", home, fault);
        copy_as_it_is(to);
        spoil_journal(to, (journal_fault)fault);
        strcpy(dir, to);
        begin(&after);
        const char *trouble = exo_log_store_trouble(after.store);
        if (fault == AS_IT_IS) {
            assert_string_equal(trouble, "");
            assert_int_equal(n_instances(&after), 8);
            assert_int_equal(exo_cluster_log_id(after.cluster), log_id);
        } else {
            if (strstr(trouble, "writes are missing") == NULL) fail_msg("%s", trouble);
            assert_in_range(n_instances(&after), fault == GONE ? 3 : 4, 7 - (fault == FLIPPED));
            assert_int_not_equal(exo_cluster_log_id(after.cluster), log_id); /* votes nothing */
        }
        assert_int_equal(create_instance(&after, 9), EXO_OK);
        end(&after);
        begin(&after); /* it is said once */
        assert_string_equal(exo_log_store_trouble(after.store), "");
        end(&after);
        strcpy(dir, home);
    }
    end(&k);
}

/* The mark says only how many there were; without it the log is as sound as it looks. */
static void test_a_lost_mark_is_no_damage(void **state) {
    (void)state;
    keeper k;
    char mark[128];
    snprintf(mark, sizeof mark, "%s/cluster.mark", dir);
    for (int run = 0; run < 3; run++) {
        begin(&k);
        assert_string_equal(exo_log_store_trouble(k.store), "");
        assert_int_equal(n_instances(&k), run);
        create_instance(&k, run);
        end(&k);
        if (run == 0) assert_int_equal(unlink(mark), 0);
        if (run == 1) assert_int_equal(truncate(mark, 20), 0);
    }
}

/* ---- snapshots ---- */

static void test_the_older_snapshot_stands_in_for_a_damaged_one(void **state) {
    (void)state;
    keeper k;
    sqlite3 *db;
    begin(&k);
    for (int i = 0; i < 30; i++) create_instance(&k, i); /* several snapshots, of 8 entries each */
    uint64_t log_id = exo_cluster_log_id(k.cluster);
    end(&k);
    assert_int_equal(sqlite3_open(file, &db), SQLITE_OK);
    static const char spoil_newest[] =
        "UPDATE snapshots SET sum = sum + 1 WHERE idx = (SELECT max(idx) FROM snapshots)";
    assert_int_equal(sqlite3_exec(db, spoil_newest, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_changes(db), 1);
    sqlite3_close(db);
    begin(&k);
    const char *trouble = exo_log_store_trouble(k.store);
    if (strstr(trouble, "a snapshot does not have its checksum") == NULL) fail_msg("%s", trouble);
    assert_in_range(n_instances(&k), 8, 29);
    assert_int_not_equal(exo_cluster_log_id(k.cluster), log_id);
    end(&k);
}

static void test_garbage_is_moved_aside(void **state) {
    (void)state;
    keeper k;
    char aside[128];
    struct stat info;
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    for (int i = 0; i < 5000; i++) fprintf(f, "garbage %d", i);
    fclose(f);
    begin(&k);
    assert_int_equal(create_instance(&k, 1), EXO_OK);
    end(&k);
    snprintf(aside, sizeof aside, "%s.damaged", file);
    assert_int_equal(stat(aside, &info), 0);
}

static void test_an_emptied_file_is_damage(void **state) {
    (void)state;
    keeper k;
    begin(&k);
    assert_string_equal(exo_log_store_trouble(k.store), "");
    end(&k);
    assert_int_equal(truncate(file, 0), 0);
    begin(&k);
    assert_non_null(strstr(exo_log_store_trouble(k.store), "nothing is in it"));
    end(&k);
    begin(&k);
    assert_string_equal(exo_log_store_trouble(k.store), "");
    end(&k);
}

static uint64_t bytes_of(const char *suffix) {
    char path[128];
    struct stat info;
    snprintf(path, sizeof path, "%s%s", file, suffix);
    return stat(path, &info) == 0 ? (uint64_t)info.st_size : 0;
}

/* A busy week of ten nodes, taken to be: each node comes back 20 times a day (phones sleep), 40
 * placements an hour, each with its end, 20 downloads a day, each with its end.  The first hour is
 * the same as any other: what counts is that the file stops growing. */
static void test_a_week_of_ten_nodes_stays_small(void **state) {
    (void)state;
    enum { HOURS = 7 * 24, JOINS = 10 * 20 / 24 + 1, PLACEMENTS = 40 };
    keeper k;
    uint64_t n_events = 0, biggest = 0;
    const char *given = getenv("EXO_TEST_WEEK"); /* "full": all of it, a minute or more */
    kept_entries = 0;                            /* as a node has it */
    int hours = 3;
    kept_entries = 64;
    if (given != NULL && strcmp(given, "full") == 0) {
        hours = HOURS;
        kept_entries = 0; /* as a node has it */
    }
    begin(&k);
    for (int h = 0; h < hours; h++) {
        for (int i = 0; i < JOINS; i++) {
            uint64_t node = 100 + (uint64_t)(h * JOINS + i) % 9;
            exo_event e = {.type = EXO_EVENT_NODE_JOINED,
                           .node = node,
                           .member = 1000 + (uint64_t)(h * JOINS + i)};
            snprintf(e.name, sizeof e.name, "a-name-of-a-node");
            exo_cluster_input in = {.kind = EXO_CLUSTER_PROPOSE, .event = &e};
            assert_int_equal(step(&k, &in), EXO_OK);
        }
        for (int i = 0; i < PLACEMENTS; i++) {
            assert_int_equal(create_instance(&k, h * PLACEMENTS + i), EXO_OK);
            exo_event e = {.type = EXO_EVENT_INSTANCE_DELETED};
            snprintf(e.instance, sizeof e.instance, "instance-%d", h * PLACEMENTS + i);
            exo_cluster_input in = {.kind = EXO_CLUSTER_PROPOSE, .event = &e};
            assert_int_equal(step(&k, &in), EXO_OK);
        }
        exo_event e = {.type = EXO_EVENT_DOWNLOAD_STARTED, .node = 5};
        snprintf(e.model_id, sizeof e.model_id, "hf:owner/a-repository-of-%d:Q4_K_M", h);
        exo_cluster_input in = {.kind = EXO_CLUSTER_PROPOSE, .event = &e};
        assert_int_equal(step(&k, &in), EXO_OK);
        e.type = EXO_EVENT_DOWNLOAD_ENDED;
        assert_int_equal(step(&k, &in), EXO_OK);
        n_events += JOINS + 2 * PLACEMENTS + 2;
        uint64_t now = bytes_of("") + bytes_of("-wal");
        if (now > biggest) biggest = now;
    }
    end(&k);
    print_message("%d hours, %llu events: at most %llu bytes on disk\n", hours,
                  (unsigned long long)n_events, (unsigned long long)biggest);
    assert_true(biggest < 50u << 20);
    begin(&k);
    assert_int_equal(n_instances(&k), 0);
    end(&k);
    kept_entries = 8;
}

/* The disk refuses in the middle; what was promised before is there, and nothing else. */
static void test_a_full_disk_is_an_error_and_loses_nothing(void **state) {
    (void)state;
    keeper k;
    struct rlimit before, tight;
    begin(&k);
    for (int i = 0; i < 4; i++) assert_int_equal(create_instance(&k, i), EXO_OK);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    tight = before;
    tight.rlim_cur = 4096;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    assert_int_equal(create_instance(&k, 5), EXO_EIO);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    end(&k);
    begin(&k);
    assert_int_equal(n_instances(&k), 4);
    assert_int_equal(create_instance(&k, 6), EXO_OK);
    end(&k);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_was_written_is_there_again, fresh_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(test_one_process_has_the_file, fresh_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_a_damaged_entry_ends_the_log_there, fresh_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(test_the_last_good_snapshot_is_used, fresh_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_without_a_good_snapshot_a_log_is_begun_anew, fresh_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(test_another_clusters_log_is_put_aside, fresh_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(test_a_damaged_journal_is_noticed, fresh_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_a_lost_mark_is_no_damage, fresh_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_the_older_snapshot_stands_in_for_a_damaged_one,
                                        fresh_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_garbage_is_moved_aside, fresh_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_an_emptied_file_is_damage, fresh_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_a_full_disk_is_an_error_and_loses_nothing, fresh_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(test_a_week_of_ten_nodes_stays_small, fresh_dir,
                                        remove_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
