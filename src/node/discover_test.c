/* discover_test.c - nodes that find each other by a platform's own discovery, faked, and by the
 * peers file; what strangers advertise. */
#define _DEFAULT_SOURCE
#define _XOPEN_SOURCE 700 /* nftw */
#include "node/node.h"

#include "base/clock.h"
#include "base/log.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define KEY         "discovery tests only"
#define PATIENCE_MS 8000

static char root[64];

/* What the platform was told to advertise. */
typedef struct {
    exo_advert advert;
    unsigned n_advertised, n_withdrawn;
} fake_platform;

static void advertise(void *ud, const exo_advert *a) {
    fake_platform *f = ud;
    f->advert = *a;
    f->n_advertised++;
}

static void withdraw(void *ud) { ((fake_platform *)ud)->n_withdrawn++; }

static exo_node *start(const char *name, const char *key, fake_platform *f) {
    char dir[128];
    exo_node *n;
    exo_error err = {0};
    exo_platform_discovery p = {advertise, withdraw, f};
    snprintf(dir, sizeof dir, "%s/%s", root, name);
    exo_node_desc d = {.data_dir = dir,
                       .name = name,
                       .listen_addr = "127.0.0.1",
                       .cluster_key = key,
                       .platform = f != NULL ? &p : NULL};
    if (exo_node_start(&d, &n, &err) != EXO_OK) fail_msg("%s", err.message);
    return n;
}

static size_t n_nodes(exo_node *n) {
    json_t *j;
    assert_int_equal(exo_node_state(n, &j, NULL), EXO_OK);
    size_t count = json_object_size(json_object_get(j, "nodes"));
    json_decref(j);
    return count;
}

static void wait_for_nodes(exo_node *n, size_t count) {
    uint64_t deadline = exo_now_ms() + PATIENCE_MS;
    while (n_nodes(n) != count && exo_now_ms() < deadline) usleep(20000);
    assert_int_equal(n_nodes(n), count);
}

/* As Android NSD reports a resolved service. */
static void report(exo_node *to, const fake_platform *of) {
    exo_found f = {.host = "127.0.0.1", .port = of->advert.port, .txt = of->advert.txt};
    snprintf(f.name, sizeof f.name, "%s", of->advert.name);
    assert_int_equal(exo_node_found(to, EXO_SOURCE_PLATFORM, &f, NULL), EXO_OK);
}

/* Status and reason of the one device that was heard. */
static void heard(exo_node *n, char status[32], char reason[240]) {
    json_t *j;
    status[0] = '\0';
    for (uint64_t end = exo_now_ms() + PATIENCE_MS; status[0] == '\0' && exo_now_ms() < end;) {
        assert_int_equal(exo_node_state(n, &j, NULL), EXO_OK);
        json_t *h = json_array_get(json_object_get(json_object_get(j, "discovery"), "heard"), 0);
        const char *s = json_string_value(json_object_get(h, "status"));
        const char *r = json_string_value(json_object_get(h, "reason"));
        snprintf(status, 32, "%s", s != NULL ? s : "");
        snprintf(reason, 240, "%s", r != NULL ? r : "");
        json_decref(j);
        usleep(10000);
    }
}

static void a_platform_leads_nodes_together(void **state) {
    (void)state;
    fake_platform a = {0}, b = {0};
    exo_node *one = start("one", KEY, &a), *two = start("two", KEY, &b);
    assert_true(a.n_advertised == 1 && b.n_advertised == 1);
    assert_int_equal(a.advert.port, exo_node_listen_port(one));
    assert_string_equal(a.advert.txt.id, exo_node_id(one));
    assert_string_equal(a.advert.txt.cluster, b.advert.txt.cluster);
    assert_true(a.advert.txt.max_memory > 0 && a.advert.txt.gpu_name[0] != '\0');
    report(one, &a); /* one hears itself, as on every platform */
    report(one, &b);
    report(two, &a);
    wait_for_nodes(one, 2);
    wait_for_nodes(two, 2);
    exo_node_stop(one);
    exo_node_stop(two);
    assert_true(a.n_withdrawn == 1 && b.n_withdrawn == 1);
}

static void strangers_that_advertise_are_listed_and_not_dialled(void **state) {
    (void)state;
    char status[32], reason[240];
    fake_platform a = {0}, b = {0};
    exo_node *one = start("one", KEY, &a), *two = start("two", "quite another key", &b);
    report(one, &b);
    heard(one, status, reason);
    assert_string_equal(status, "other_key");
    assert_non_null(strstr(reason, "exo invite"));
    assert_int_equal(n_nodes(one), 1);
    exo_node_stop(one);
    exo_node_stop(two);
}

static void what_is_advertised_is_not_believed(void **state) {
    (void)state;
    char status[32], reason[240];
    fake_platform a = {0}, b = {0};
    exo_node *one = start("one", KEY, &a), *two = start("two", "quite another key", &b);
    fake_platform liar = b; /* two claims to be of one's cluster */
    memcpy(liar.advert.txt.cluster, a.advert.txt.cluster, sizeof liar.advert.txt.cluster);
    report(one, &liar);
    for (uint64_t end = exo_now_ms() + PATIENCE_MS; exo_now_ms() < end; usleep(20000)) {
        heard(one, status, reason);
        if (strstr(reason, "does not match") != NULL) break;
    }
    assert_non_null(strstr(reason, "cluster key does not match"));
    assert_int_equal(n_nodes(one), 1);
    exo_node_stop(one);
    exo_node_stop(two);
}

static void the_peers_file_names_nodes(void **state) {
    (void)state;
    char path[160];
    exo_node *one = start("one", KEY, NULL), *two = start("two", KEY, NULL);
    snprintf(path, sizeof path, "%s/two/peers", root);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "# those at home\n\nnonsense\n  127.0.0.1:%u  # one\n", exo_node_listen_port(one));
    fclose(f);
    wait_for_nodes(two, 2); /* read while it runs */
    exo_node_stop(one);
    exo_node_stop(two);
}

static void a_data_directory_is_for_one_node(void **state) {
    (void)state;
    char dir[128];
    exo_node *one = start("one", KEY, NULL), *again;
    exo_error err = {0};
    snprintf(dir, sizeof dir, "%s/one", root);
    exo_node_desc d = {.data_dir = dir, .listen_addr = "127.0.0.1", .cluster_key = KEY};
    assert_int_equal(exo_node_start(&d, &again, &err), EXO_EBUSY);
    assert_non_null(strstr(err.message, "another exo node uses"));
    exo_node_stop(one);
}

static int make_root(void **state) {
    (void)state;
    exo_log_set(EXO_LOG_ERROR);
    strcpy(root, "/tmp/exo-discover-XXXXXX");
    return mkdtemp(root) == NULL;
}

static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *at) {
    (void)s;
    (void)kind;
    (void)at;
    return remove(path);
}

static int remove_root(void **state) {
    (void)state;
    return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_platform_leads_nodes_together, make_root, remove_root),
        cmocka_unit_test_setup_teardown(strangers_that_advertise_are_listed_and_not_dialled,
                                        make_root, remove_root),
        cmocka_unit_test_setup_teardown(what_is_advertised_is_not_believed, make_root, remove_root),
        cmocka_unit_test_setup_teardown(the_peers_file_names_nodes, make_root, remove_root),
        cmocka_unit_test_setup_teardown(a_data_directory_is_for_one_node, make_root, remove_root),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
