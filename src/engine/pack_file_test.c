/* Files of packed weights and notes of model files: whole or refused, and room made for them. */
#define _DEFAULT_SOURCE /* mkdtemp, truncate, utimensat */
#include "base/clock.h"
#include "base/mem.h"
#include "engine/pack_cache.h"
#include "engine/pack_file.h"
#include "engine/pack_memo.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define N_BYTES 3000000u

static char dir[] = "/tmp/exo-pack-test-XXXXXX";
static uint8_t *bytes;

static exo_pack_key key(uint8_t n) {
    exo_pack_key k = {.layout = 1, .type = 2, .n_rows = 3, .n_cols = 4};
    memset(k.content, n, sizeof k.content);
    return k;
}

static void path_of(const exo_pack_key *k, char out[EXO_PACK_PATH_BYTES]) {
    char name[EXO_PACK_NAME_BYTES];
    exo_pack_name(k, name);
    snprintf(out, EXO_PACK_PATH_BYTES, "%s/%s", dir, name);
}

static size_t n_files(void) {
    size_t n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void write_one(uint8_t n, size_t n_bytes) {
    exo_error err = {0};
    exo_pack_key k = key(n);
    assert_int_equal(exo_pack_write(dir, &k, bytes, n_bytes, NULL, &err), EXO_OK);
}

static int begin(void **state) {
    (void)state;
    bytes = exo_malloc(N_BYTES);
    for (size_t i = 0; bytes != NULL && i < N_BYTES; i++) bytes[i] = (uint8_t)(i * 31 + (i >> 9));
    return bytes != NULL && mkdtemp(dir) != NULL ? 0 : -1;
}

static int end(void **state) {
    (void)state;
    exo_free(bytes);
    return rmdir(dir);
}

static void remove_one(uint8_t n) {
    exo_pack_key k = key(n);
    exo_pack_remove(dir, &k);
}

static void test_comes_back(void **state) {
    (void)state;
    exo_error err = {0};
    exo_pack_map m;
    exo_pack_key k = key(1);
    assert_int_equal(exo_pack_open(dir, &k, &m, &err), EXO_ENOTFOUND);
    assert_false(exo_pack_touch(dir, &k));
    write_one(1, N_BYTES);
    assert_true(exo_pack_touch(dir, &k));
    assert_int_equal(exo_pack_open(dir, &k, &m, &err), EXO_OK);
    assert_int_equal(m.n_bytes, N_BYTES);
    assert_memory_equal(m.bytes, bytes, N_BYTES);
    assert_true(m.sum == exo_packed_sum(bytes, N_BYTES));
    exo_pack_close(&m);
    remove_one(1);
    assert_int_equal(n_files(), 0);
}

static void test_sum_sees_every_piece(void **state) {
    (void)state;
    const size_t at[] = {0, 1, EXO_PACKED_PIECE - 1, EXO_PACKED_PIECE, N_BYTES - 1};
    uint64_t sum = exo_packed_sum(bytes, N_BYTES);
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        bytes[at[i]] ^= 16;
        assert_true(exo_packed_sum(bytes, N_BYTES) != sum);
        bytes[at[i]] ^= 16;
    }
    assert_true(exo_packed_sum(bytes, N_BYTES - 1) != sum);
    assert_true(exo_packed_sum(bytes, N_BYTES) == sum);
}

static void test_any_damage_of_the_trailer_is_seen(void **state) {
    (void)state;
    uint8_t t[EXO_PACK_TRAILER_BYTES];
    uint64_t sum, n = 1000 + EXO_PACK_TRAILER_BYTES;
    exo_error err;
    exo_pack_key k = key(7);
    exo_pack_trailer_write(&k, 1000, 42, t);
    assert_int_equal(exo_pack_trailer_read(t, &k, n, &sum, &err), EXO_OK);
    assert_int_equal(sum, 42);
    assert_int_equal(exo_pack_trailer_read(t, &k, n - 1, &sum, &err), EXO_EFORMAT);
    for (size_t i = 0; i < sizeof t; i++) {
        t[i] ^= 1;
        assert_int_equal(exo_pack_trailer_read(t, &k, n, &sum, &err), EXO_EFORMAT);
        t[i] ^= 1;
    }
    exo_pack_key others[5] = {k, k, k, k, k};
    others[0].layout++;
    others[1].type++;
    others[2].n_rows++;
    others[3].n_cols++;
    others[4].content[31]++;
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(exo_pack_trailer_read(t, &others[i], n, &sum, &err), EXO_EFORMAT);
    }
}

static void test_short_and_foreign_files_are_refused(void **state) {
    (void)state;
    char path[EXO_PACK_PATH_BYTES];
    exo_error err = {0};
    exo_pack_map m;
    exo_pack_key k = key(2);
    path_of(&k, path);
    write_one(2, N_BYTES);
    const off_t lengths[] = {N_BYTES, EXO_PACK_TRAILER_BYTES, 1, 0};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        assert_int_equal(truncate(path, lengths[i]), 0);
        assert_int_equal(exo_pack_open(dir, &k, &m, &err), EXO_EFORMAT);
        assert_null(m.bytes);
    }
    remove_one(2);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    assert_int_equal(exo_pack_open(dir, &k, &m, &err), EXO_EIO);
    remove_one(2);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(exo_pack_open(dir, &k, &m, &err), EXO_EIO);
    remove_one(2);
}

static void test_stopped_writing_leaves_nothing(void **state) {
    (void)state;
    exo_error err = {0};
    atomic_bool stop = true;
    exo_pack_key k = key(3);
    assert_int_equal(exo_pack_write(dir, &k, bytes, N_BYTES, &stop, &err), EXO_ECANCELED);
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        assert_true(strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0);
    }
    closedir(d);
    assert_int_equal(exo_pack_write("/nowhere", &k, bytes, N_BYTES, NULL, &err), EXO_EIO);
    assert_string_equal(err.message, "No such file or directory");
}

static void used_at(uint8_t n, time_t when) {
    char path[EXO_PACK_PATH_BYTES];
    const struct timespec times[2] = {{.tv_sec = when}, {.tv_sec = when}};
    exo_pack_key k = key(n);
    path_of(&k, path);
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void test_oldest_goes_first(void **state) {
    (void)state;
    time_t now = (time_t)exo_unix_time();
    for (uint8_t n = 0; n < 4; n++) {
        write_one(n, 100000);
        used_at(n, now - 100 + (n ^ 1)); /* oldest first: 1, 0, 3, 2 */
    }
    exo_pack_key k[4] = {key(0), key(1), key(2), key(3)};
    assert_true(exo_pack_make_room(dir, 100000, 1000000, (double)now));
    assert_int_equal(n_files(), 4);
    assert_true(exo_pack_make_room(dir, 100000, 320000, (double)now));
    assert_int_equal(n_files(), 2);
    assert_true(exo_pack_touch(dir, &k[2]) && exo_pack_touch(dir, &k[3]));
    assert_false(exo_pack_make_room(dir, 100000, 99999, (double)now));
    used_at(2, now + 5); /* in use by this load: it stays */
    used_at(3, now - 1); /* a disk's times have steps */
    assert_false(exo_pack_make_room(dir, 100000, 200000, (double)now));
    assert_int_equal(n_files(), 2);
    remove_one(2);
    remove_one(3);
}

static void test_notes(void **state) {
    (void)state;
    exo_error err = {0};
    exo_file_id file = {.device = 9, .inode = 8, .bytes = 7, .mtime_ns = -6, .ctime_ns = 5};
    exo_pack_memo m = {.file = file}, back;
    for (uint32_t i = 0; i < 3; i++) {
        exo_pack_entry e = {.offset = i, .bytes = 10, .type = 1, .n_rows = 2, .n_cols = 3 + i};
        assert_int_equal(exo_pack_memo_add(&m, &e, &err), EXO_OK);
        assert_int_equal(exo_pack_memo_add(&m, &e, &err), EXO_OK); /* replaces itself */
    }
    assert_int_equal(m.n, 3);
    assert_int_equal(exo_pack_memo_write(dir, &m, &err), EXO_OK);
    exo_pack_memo_read(dir, &file, &back);
    assert_int_equal(back.n, 3);
    assert_non_null(exo_pack_memo_find(&back, &m.entries[1]));
    exo_pack_entry other = m.entries[1];
    other.n_cols++;
    assert_null(exo_pack_memo_find(&back, &other));
    exo_pack_memo_finish(&back);
    exo_buf text = {0};
    exo_pack_memo_print(&m, &text);
    for (size_t i = 0; i < text.n; i++) {
        text.data[i] ^= 4;
        assert_int_equal(exo_pack_memo_parse(text.data, text.n, &file, &back, &err), EXO_EFORMAT);
        text.data[i] ^= 4;
        assert_int_equal(exo_pack_memo_parse(text.data, i, &file, &back, &err), EXO_EFORMAT);
    }
    exo_file_id changed[5] = {file, file, file, file, file};
    changed[0].device++;
    changed[1].inode++;
    changed[2].bytes++;
    changed[3].mtime_ns++;
    changed[4].ctime_ns++;
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(exo_pack_memo_parse(text.data, text.n, &changed[i], &back, &err),
                         EXO_EFORMAT);
    }
    exo_buf_finish(&text);
    exo_pack_memo_finish(&m);
    char path[64];
    snprintf(path, sizeof path, "%s/9-8.memo", dir);
    assert_int_equal(unlink(path), 0);
}

static void test_settings(void **state) {
    (void)state;
    exo_error err;
    exo_pack_settings s = {.dir = "x"};
    assert_int_equal(exo_pack_settings_read(NULL, &s, &err), EXO_OK);
    assert_int_equal(exo_pack_settings_read("3G", &s, &err), EXO_OK);
    assert_true(s.cap_bytes == (uint64_t)3 << 30 && s.dir != NULL && !s.always);
    assert_int_equal(exo_pack_settings_read("always", &s, &err), EXO_OK);
    assert_true(s.always);
    assert_int_equal(exo_pack_settings_read("off", &s, &err), EXO_OK);
    assert_null(s.dir);
    const char *const bad[] = {"yes",        "3", "3GB", "-1G", "0G", "99999999999999999999G",
                               "9999999999T"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(exo_pack_settings_read(bad[i], &s, &err), EXO_EINVAL);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_comes_back),
        cmocka_unit_test(test_sum_sees_every_piece),
        cmocka_unit_test(test_any_damage_of_the_trailer_is_seen),
        cmocka_unit_test(test_short_and_foreign_files_are_refused),
        cmocka_unit_test(test_stopped_writing_leaves_nothing),
        cmocka_unit_test(test_oldest_goes_first),
        cmocka_unit_test(test_notes),
        cmocka_unit_test(test_settings),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
