/* mailbox_test.c - several threads push, one takes: nothing lost, order kept; and the latch. */
#define _POSIX_C_SOURCE 200809L
#include "base/mailbox.h"

#include "base/clock.h"
#include "base/mem.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>

#include <cmocka.h>

#define N_THREADS  4u
#define PER_THREAD 5000u

typedef struct {
    exo_msg msg;
    uint32_t thread, number;
} numbered;

typedef struct {
    exo_mailbox *box;
    atomic_uint wakes;
} shared;

typedef struct {
    shared *s;
    uint32_t thread;
    numbered messages[PER_THREAD];
} pusher;

static void count_wake(void *ud) { atomic_fetch_add(&((shared *)ud)->wakes, 1); }

static void *push_all(void *arg) {
    pusher *p = arg;
    for (uint32_t i = 0; i < PER_THREAD; i++) {
        p->messages[i] = (numbered){.thread = p->thread, .number = i};
        exo_mailbox_push(p->s->box, &p->messages[i].msg);
    }
    return NULL;
}

static void every_message_arrives_in_its_threads_order(void **state) {
    (void)state;
    shared s = {0};
    assert_int_equal(exo_mailbox_create(count_wake, &s, &s.box, NULL), EXO_OK);
    assert_null(exo_mailbox_take(s.box));
    pusher *p = exo_calloc(N_THREADS, sizeof *p);
    pthread_t threads[N_THREADS];
    for (uint32_t i = 0; i < N_THREADS; i++) {
        p[i].s = &s;
        p[i].thread = i;
        assert_int_equal(pthread_create(&threads[i], NULL, push_all, &p[i]), 0);
    }
    uint32_t next[N_THREADS] = {0}, taken = 0;
    uint64_t deadline = exo_now_ms() + 20000;
    while (taken < N_THREADS * PER_THREAD && exo_now_ms() < deadline) {
        for (exo_msg *m = exo_mailbox_take(s.box), *after; m != NULL; m = after, taken++) {
            after = m->next;
            const numbered *n = (const numbered *)m;
            assert_int_equal(n->number, next[n->thread]++);
        }
        sched_yield();
    }
    for (uint32_t i = 0; i < N_THREADS; i++) pthread_join(threads[i], NULL);
    assert_int_equal(taken, N_THREADS * PER_THREAD);
    assert_int_equal(atomic_load(&s.wakes), taken);
    assert_null(exo_mailbox_take(s.box));
    exo_mailbox_destroy(s.box);
    exo_free(p);
}

static void a_mailbox_without_wake_up_works_as_a_list(void **state) {
    (void)state;
    exo_mailbox *box;
    exo_msg a, b;
    assert_int_equal(exo_mailbox_create(NULL, NULL, &box, NULL), EXO_OK);
    exo_mailbox_push(box, &a);
    exo_mailbox_push(box, &b);
    exo_msg *first = exo_mailbox_take(box);
    assert_ptr_equal(first, &a);
    assert_ptr_equal(first->next, &b);
    assert_null(b.next);
    exo_mailbox_destroy(box);
    exo_mailbox_destroy(NULL);
}

static void *set_latch(void *arg) {
    exo_latch_set(arg);
    return NULL;
}

static void a_latch_opens_once_and_stays_open(void **state) {
    (void)state;
    exo_latch *l;
    assert_int_equal(exo_latch_create(&l, NULL), EXO_OK);
    uint64_t begin = exo_now_ms();
    assert_false(exo_latch_wait(l, 30));
    assert_true(exo_now_ms() - begin >= 25);
    assert_false(exo_latch_wait(l, 0));
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, set_latch, l), 0);
    assert_true(exo_latch_wait(l, 20000));
    pthread_join(t, NULL);
    assert_true(exo_latch_wait(l, 0));
    exo_latch_destroy(l);
    exo_latch_destroy(NULL);
}

static void without_memory_there_is_neither(void **state) {
    (void)state;
    exo_mailbox *box;
    exo_latch *l;
    exo_error err;
    exo_mem_fail_at(1);
    assert_int_equal(exo_mailbox_create(NULL, NULL, &box, &err), EXO_ENOMEM);
    assert_null(box);
    exo_mem_fail_at(1);
    assert_int_equal(exo_latch_create(&l, &err), EXO_ENOMEM);
    assert_null(l);
    exo_mem_fail_at(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_arrives_in_its_threads_order),
        cmocka_unit_test(a_mailbox_without_wake_up_works_as_a_list),
        cmocka_unit_test(a_latch_opens_once_and_stays_open),
        cmocka_unit_test(without_memory_there_is_neither),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
