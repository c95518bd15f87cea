/* map_guard_test.c - files that are cut while they are mapped. */
#define _DEFAULT_SOURCE
#include "base/map_guard.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define N_PAGES 5

typedef struct {
    int fd;
    size_t page;
    volatile uint8_t *bytes;
} file;

static file make(void) {
    char path[] = "/tmp/exo-map-guard-XXXXXX";
    file f = {.fd = mkstemp(path), .page = (size_t)sysconf(_SC_PAGESIZE)};
    assert_true(f.fd >= 0);
    unlink(path);
    for (size_t i = 0; i < N_PAGES * f.page; i++) assert_int_equal(write(f.fd, "x", 1), 1);
    f.bytes = mmap(NULL, N_PAGES * f.page, PROT_READ, MAP_PRIVATE, f.fd, 0);
    assert_ptr_not_equal((void *)(uintptr_t)f.bytes, MAP_FAILED);
    return f;
}

static void finish(file *f) {
    munmap((void *)(uintptr_t)f->bytes, N_PAGES * f->page);
    close(f->fd);
}

static void what_is_cut_reads_as_zeros(void **ud) {
    (void)ud;
    file f = make(), other = make();
    const void *begin = (const void *)(uintptr_t)f.bytes;
    exo_map_guard_add(begin, N_PAGES * f.page);
    exo_map_guard_add((const void *)(uintptr_t)other.bytes, N_PAGES * f.page);
    assert_int_equal(f.bytes[4 * f.page], 'x');
    assert_false(exo_map_guard_hurt(begin));
    assert_int_equal(ftruncate(f.fd, (off_t)(2 * f.page)), 0);
    assert_int_equal(f.bytes[2 * f.page - 1], 'x');
    assert_false(exo_map_guard_hurt(begin));
    assert_int_equal(f.bytes[3 * f.page + 7], 0);
    assert_int_equal(f.bytes[4 * f.page], 0);
    assert_true(exo_map_guard_hurt(begin));
    assert_int_equal(f.bytes[0], 'x');
    assert_false(exo_map_guard_hurt((const void *)(uintptr_t)other.bytes));
    exo_map_guard_remove(begin);
    exo_map_guard_remove((const void *)(uintptr_t)other.bytes);
    assert_false(exo_map_guard_hurt(begin));
    finish(&f);
    finish(&other);
}

/* In a child, which that ends; first of all tests, so that no guard is installed yet. */
static void what_is_not_guarded_is_as_before(void **ud) {
    (void)ud;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGBUS, SIG_DFL); /* cmocka has its own */
        file f = make(), guarded = make();
        exo_map_guard_add((const void *)(uintptr_t)guarded.bytes, N_PAGES * f.page);
        if (ftruncate(f.fd, 0) != 0) _exit(3);
        alarm(10);
        _exit(f.bytes[0] == 'x' ? 4 : 5);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_guarded_is_as_before),
        cmocka_unit_test(what_is_cut_reads_as_zeros),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
