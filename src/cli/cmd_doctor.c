/* cmd_doctor.c - `exo doctor`: why nodes do, or do not, see each other.
 *
 * Asks the running node what it sent, heard and dialled; where none runs, listens for two
 * seconds itself.  Then it says what that means, one line per finding. */
#define _DEFAULT_SOURCE
#include "cli/cli.h"
#include "cli/local.h"
#include "net/keyring.h"
#include "node/listen_lan.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LISTEN_MS   2000u
#define ENOUGH_SENT 3 /* beacons after which our own should have come back */
#define SETTLED_S   5 /* between two beacons of a node: before, who is not heard may be there */

typedef struct {
    exo_buf text;
    unsigned n;
} findings;

static void find(findings *f, const char *fmt, ...) EXO_PRINTF(2, 3);
static void find(findings *f, const char *fmt, ...) {
    char line[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    exo_buf_printf(&f->text, "  %u. %s\n", ++f->n, line);
}

static const char *text_of(const json_t *j, const char *key) {
    const char *text = json_string_value(json_object_get(j, key));
    return text != NULL ? text : "";
}

static json_int_t count_of(const json_t *j, const char *key) {
    return json_integer_value(json_object_get(j, key));
}

static bool is_on(const json_t *j, const char *key) {
    return json_is_true(json_object_get(j, key));
}

/* ---- interfaces ---- */

static void judge_interface(const json_t *i, bool runs, findings *f) {
    const char *name = text_of(i, "name"), *address = text_of(i, "address");
    const char *error = text_of(i, "error");
    if (strcmp(error, "address not available") == 0) {
        find(f,
             "%s (%s): the system has not finished with this address yet: look again in a few "
             "seconds",
             name, address);
    } else if (*error != '\0') {
        find(f, "%s (%s): beacons cannot be sent (%s): a firewall of this machine, or no route",
             name, address, error);
    } else if (runs && count_of(i, "sent") >= ENOUGH_SENT && count_of(i, "own") == 0) {
        find(f,
             "%s (%s): our own beacons do not come back: a firewall of this machine drops UDP port "
             "52417; allow it, and TCP port 52416 for links",
             name, address);
    }
    if (strcmp(text_of(i, "kind"), "VPN or tunnel") == 0 && count_of(i, "heard") == 0) {
        find(f,
             "%s is a VPN or tunnel, which seldom carries beacons: name nodes behind it by "
             "--peer HOST:PORT",
             name);
    }
}

static size_t show_interfaces(const json_t *d, bool runs, findings *f) {
    size_t i, used = 0;
    json_t *item;
    printf("\ninterfaces\n");
    json_array_foreach(json_object_get(d, "interfaces"), i, item) {
        const char *kind = text_of(item, "kind");
        printf("  %-10s %-34s %-8s ", text_of(item, "name"), text_of(item, "address"),
               strcmp(kind, "LAN") == 0        ? "LAN"
               : strcmp(kind, "loopback") == 0 ? "loopback"
                                               : "");
        if (is_on(item, "used")) {
            used++;
            printf("sent %lld, heard %lld", (long long)count_of(item, "sent"),
                   (long long)count_of(item, "heard"));
            judge_interface(item, runs, f);
        } else {
            printf("not used%s", is_on(item, "up") ? "" : ": it is down");
        }
        bool told = strcmp(kind, "LAN") == 0 || strcmp(kind, "loopback") == 0;
        printf("%s%s\n", told ? "" : "; leads to: ", told ? "" : kind);
    }
    return used;
}

/* ---- who was heard ---- */

static void show_addresses(const json_t *peer) {
    size_t i;
    json_t *a;
    json_array_foreach(json_object_get(peer, "addresses"), i, a) {
        size_t k;
        json_t *source, *rtt = json_object_get(a, "rtt_ms");
        printf("      %s", text_of(a, "address"));
        if (json_is_real(rtt)) printf(", %.2f ms", json_real_value(rtt));
        json_array_foreach(json_object_get(a, "sources"), k, source) {
            printf("%s%s", k == 0 ? ", by " : " and ", json_string_value(source));
        }
        if (*text_of(a, "failure") != '\0' && !is_on(peer, "connected")) {
            printf("\n        %s", text_of(a, "failure"));
        }
        printf("\n");
    }
}

static void judge_peer(const json_t *p, bool runs, findings *f) {
    const char *name = text_of(p, "name"), *id = text_of(p, "node_id");
    const char *reason = text_of(p, "reason");
    if (*reason != '\0' && (runs || strcmp(text_of(p, "status"), "member") != 0)) {
        find(f, "%s (%s): %s", name, id, reason);
    }
    if (is_on(p, "clock_is_off")) {
        double s = (double)count_of(p, "clock_skew_ms") / 1000;
        find(f,
             "%s (%s): its clock is %.0f s %s of this one's: join codes expire at the wrong "
             "time",
             name, id, s < 0 ? -s : s, s < 0 ? "behind" : "ahead");
    }
    if (is_on(p, "identity_used_twice")) {
        find(f,
             "%s (%s): two devices run with this identity: a data directory was copied; remove "
             "node.key from one of them",
             name, id);
    }
}

static size_t show_heard(const json_t *d, bool runs, findings *f) {
    size_t i, n = 0;
    json_t *p;
    printf("\nheard\n");
    json_array_foreach(json_object_get(d, "heard"), i, p) {
        printf("  %s (%s): %s, %.0f s ago\n", text_of(p, "name"), text_of(p, "node_id"),
               is_on(p, "connected") ? "linked" : text_of(p, "status"),
               json_number_value(json_object_get(p, "last_heard_s")));
        show_addresses(p);
        judge_peer(p, runs, f);
        n++;
    }
    if (n == 0) printf("  nobody\n");
    return n;
}

/* Addresses that were named, not heard, and do not work. */
static void judge_dialled(const json_t *d, findings *f) {
    size_t i;
    json_t *a;
    json_array_foreach(json_object_get(d, "dialled"), i, a) {
        if (*text_of(a, "failure") == '\0') continue;
        find(f, "%s: no link after %lld tries (%s)", text_of(a, "address"),
             (long long)count_of(a, "n_failed"), text_of(a, "failure"));
    }
}

static void show(const json_t *d, const json_t *state) {
    findings f = {0};
    bool runs = state != NULL;
    const char *trouble = text_of(json_object_get(state, "log"), "trouble");
    if (*trouble != '\0') find(&f, "%s", trouble);
    size_t used = show_interfaces(d, runs, &f);
    const char *off = text_of(d, "off"), *dns_sd = text_of(d, "dns_sd_off");
    printf("\nways\n  beacon     %s\n  DNS-SD     %s\n", *off == '\0' ? "UDP port 52417" : off,
           !runs             ? "not tried: no node runs"
           : *dns_sd == '\0' ? "_exo-gpu._tcp"
                             : dns_sd);
    size_t heard = show_heard(d, runs, &f);
    if (*off != '\0') find(&f, "the beacon is off: %s", off);
    if (*off == '\0' && used == 0) find(&f, "no interface can carry beacons: is there a network?");
    double listening_s = json_number_value(json_object_get(d, "listening_s"));
    bool early = runs && *off == '\0' && listening_s < SETTLED_S;
    if (early) {
        find(&f,
             "this node has only just begun to listen (%.1f s ago): others may still come; look "
             "again in %d s",
             listening_s, SETTLED_S);
    }
    if (heard == 0 && used > 0 && !early) {
        find(&f, "nobody was heard: other devices are off, in another network, or this network "
                 "keeps its devices apart (guest Wi-Fi often does); --peer HOST:PORT needs no "
                 "beacon");
    }
    judge_dialled(d, &f);
    json_t *b = json_object_get(d, "beacons");
    if (count_of(b, "garbage") + count_of(b, "dropped") > 0) {
        find(&f, "%lld datagrams on the beacon's port were none, %lld came too fast",
             (long long)count_of(b, "garbage"), (long long)count_of(b, "dropped"));
    }
    printf("\nfindings\n%s", f.n > 0 ? exo_buf_str(&f.text) : "  none\n");
    exo_buf_finish(&f.text);
}

/* ---- the command ---- */

static void show_node(const json_t *state, const json_t *d, const char *data_dir) {
    if (state == NULL) {
        printf("no node runs with %s: start `exo`; heard in %u s without one:\n", data_dir,
               LISTEN_MS / 1000);
        return;
    }
    const char *id = text_of(state, "node_id");
    const json_t *nodes = json_object_get(state, "nodes");
    printf("node %s (%s), links on port %lld, namespace %s, cluster %s, key %s, linked with %zu\n",
           text_of(json_object_get(nodes, id), "name"), id, (long long)count_of(d, "port"),
           text_of(d, "namespace"), text_of(d, "cluster"),
           strcmp(text_of(d, "key"), "given") == 0 ? "from EXO_CLUSTER_KEY" : "stored",
           json_object_size(nodes) > 0 ? json_object_size(nodes) - 1 : 0);
}

static exo_status look(const char *data_dir, const char *key, const char *name_space,
                       json_t **state, json_t **d, exo_error *err) {
    exo_status st = exo_cli_local_state(data_dir, state, err);
    if (st == EXO_OK) {
        *d = json_incref(json_object_get(*state, "discovery"));
        return *d != NULL ? EXO_OK
                          : exo_error_set(err, EXO_EFORMAT, "the node says nothing of discovery");
    }
    if (st != EXO_ENOTFOUND) return st;
    exo_keyring k;
    st = exo_keyring_load(data_dir, key, name_space, &k, err);
    if (st == EXO_OK) st = exo_listen_lan(data_dir, &k, LISTEN_MS, d, err);
    exo_keyring_finish(&k);
    return st;
}

static int doctor(int argc, char **argv) {
    const exo_command *c = &exo_cmd_doctor;
    const char *data_dir = NULL, *name_space = NULL, *key;
    bool json = false;
    const exo_option options[] = {{.name = "data-dir", .value = &data_dir},
                                  {.name = "namespace", .value = &name_space},
                                  {.name = "json", .seen = &json},
                                  {0}};
    int rc = exo_cli_parse(c, argc, argv, options, NULL, 0);
    if (rc != EXO_EXIT_OK) return rc;
    if (!exo_cli_cluster_key(c, &key)) return EXO_EXIT_USAGE;
    exo_error err = {0};
    if (data_dir != NULL && key == NULL && access(data_dir, F_OK) != 0) { /* mistyped */
        exo_error_set(&err, EXO_ENOTFOUND, "there is no directory %s", data_dir);
        return exo_cli_fail(&err);
    }
    if (data_dir == NULL) data_dir = exo_cli_data_dir();
    json_t *state = NULL, *d = NULL;
    exo_status st = look(data_dir, key, name_space, &state, &d, &err);
    if (st == EXO_OK && json) {
        rc = exo_cli_print_json(json_incref(d));
    } else if (st == EXO_OK) {
        show_node(state, d, data_dir);
        show(d, state);
    } else {
        rc = exo_cli_fail(&err);
    }
    json_decref(d);
    json_decref(state);
    return rc;
}

const exo_command exo_cmd_doctor = {
    .name = "doctor",
    .summary = "why nodes do, or do not, see each other",
    .help = "usage: exo doctor [--json] [--namespace S] [--data-dir D]\n\n"
            "Shows interface by interface what was sent and heard, every device that was heard\n"
            "and why it is not linked, and what to do about it.  Asks the node that runs with\n"
            "the data directory; without one it listens for two seconds itself.\n"
            "  --json          what the findings are made from\n"
            "  --namespace S   without a running node: the namespace to listen for\n"
            "  --data-dir D    default: EXO_HOME or ~/.exo\n\n"
            "  exo doctor\n",
    .run = doctor,
};
