/* cmd_join.c - `exo join`, `exo leave`, `exo remove` and `exo rekey`: changes of what cluster this
 * device belongs to and who else does.  A running node follows the files within a second. */
#define _DEFAULT_SOURCE
#include "cli/cli.h"
#include "cli/local.h"
#include "net/addr.h"
#include "net/invite.h"
#include "net/keyring.h"
#include "node/join.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GIVEN_KEY                                                                                  \
    "the cluster key of this node comes from EXO_CLUSTER_KEY: change it there, on every node"

/* True for an answer that begins with y; the end of the input is a no. */
static bool ask_yes(const char *question) {
    char line[64];
    fprintf(stderr, "%s [y/N] ", question);
    fflush(stderr);
    if (fgets(line, sizeof line, stdin) == NULL) return false;
    return line[0] == 'y' || line[0] == 'Y';
}

/* ---- join ---- */

static bool confirm(void *ud, const exo_join_offer *offer) {
    const bool *yes = ud;
    char question[512];
    snprintf(question, sizeof question, "Join the cluster of %s (%zu node%s: %s)?", offer->name,
             offer->n_nodes, offer->n_nodes == 1 ? "" : "s", offer->nodes);
    return *yes || ask_yes(question);
}

/* What the node that runs here is called; borrowed from *state. */
static const char *running_name(const char *data_dir, json_t **state) {
    if (exo_cli_local_state(data_dir, state, NULL) != EXO_OK) return NULL;
    const char *id = json_string_value(json_object_get(*state, "node_id"));
    const json_t *self = json_object_get(json_object_get(*state, "nodes"), id != NULL ? id : "");
    return json_string_value(json_object_get(self, "name"));
}

static int join(int argc, char **argv) {
    const exo_command *c = &exo_cmd_join;
    const char *data_dir = NULL, *name = NULL, *peers[EXO_CLI_MAX_LIST], *words[EXO_CODE_WORDS];
    size_t n_peers = 0;
    bool yes = false;
    exo_buf code = {0};
    const exo_option options[] = {{.name = "data-dir", .value = &data_dir},
                                  {.name = "name", .value = &name},
                                  {.name = "peer", .list = peers, .n_list = &n_peers},
                                  {.name = "yes", .seen = &yes},
                                  {0}};
    int rc = exo_cli_parse(c, argc, argv, options, words, EXO_CODE_WORDS);
    if (rc != EXO_EXIT_OK) return rc;
    if (words[0] == NULL) return exo_cli_usage(c, "the join code is missing");
    exo_error err = {0};
    for (size_t i = 0; i < n_peers; i++) {
        exo_addr a;
        if (exo_addr_parse(peers[i], &a, &err) != EXO_OK) {
            return exo_cli_usage(c, "--peer: %s", err.message);
        }
    }
    for (size_t i = 0; i < EXO_CODE_WORDS && words[i] != NULL; i++) {
        exo_buf_printf(&code, "%s%s", i > 0 ? "-" : "", words[i]);
    }
    if (data_dir == NULL) data_dir = exo_cli_data_dir();
    json_t *state = NULL;
    if (name == NULL) name = running_name(data_dir, &state);
    exo_join_desc d = {.data_dir = data_dir,
                       .name = name,
                       .code = exo_buf_str(&code),
                       .peers = peers,
                       .n_peers = n_peers,
                       .confirm = confirm,
                       .ud = &yes};
    exo_join_offer offer;
    exo_status st = exo_join(&d, &offer, &err);
    exo_buf_finish(&code);
    json_decref(state);
    if (st == EXO_EINVAL) return exo_cli_usage(c, "%s", err.message);
    if (st != EXO_OK) return exo_cli_fail(&err);
    bool usual = strcmp(offer.name_space, EXO_DEFAULT_NAMESPACE) == 0;
    printf("joined the cluster of %s%s%s%s\n", offer.name, usual ? "" : ", namespace ",
           usual ? "" : offer.name_space,
           exo_cli_node_runs(data_dir) ? "" : "; start `exo` to take part");
    return EXO_EXIT_OK;
}

/* ---- leave and rekey ---- */

/* ud: it was more than a cluster of one. */
static exo_status begin_anew(void *ud, exo_keyring *k, exo_error *err) {
    *(bool *)ud = k->joined;
    return exo_keyring_begin(k, err);
}

static exo_status rotate(void *ud, exo_keyring *k, exo_error *err) {
    (void)ud;
    k->rekeyed = true;
    return exo_keyring_renew(k, err);
}

static bool key_is_given(const json_t *state) {
    const char *key =
        json_string_value(json_object_get(json_object_get(state, "discovery"), "key"));
    return key != NULL && strcmp(key, "given") == 0;
}

static int leave(int argc, char **argv) {
    const exo_command *c = &exo_cmd_leave;
    const char *data_dir = NULL;
    const exo_option options[] = {{.name = "data-dir", .value = &data_dir}, {0}};
    int rc = exo_cli_parse(c, argc, argv, options, NULL, 0);
    if (rc != EXO_EXIT_OK) return rc;
    if (data_dir == NULL) data_dir = exo_cli_data_dir();
    exo_error err = {0};
    if (!exo_cli_has_cluster(data_dir)) {
        exo_error_set(&err, EXO_ENOTFOUND, "no exo has run with %s: there is no cluster to leave",
                      data_dir);
        return exo_cli_fail(&err);
    }
    json_t *state = NULL;
    exo_cli_local_state(data_dir, &state, NULL); /* none runs: none has a key from outside */
    bool given = key_is_given(state);
    json_decref(state);
    if (given) {
        exo_error_set(&err, EXO_EINVAL, GIVEN_KEY);
        return exo_cli_fail(&err);
    }
    bool joined = false;
    exo_status st = exo_keyring_change(data_dir, begin_anew, &joined, NULL, &err);
    if (st != EXO_OK) return exo_cli_fail(&err);
    printf(joined ? "left: this device is a cluster of its own now\n"
                  : "this device was a cluster of its own already; it has a new key now\n");
    return EXO_EXIT_OK;
}

/* The nodes that are linked now and may stay, by name. */
static size_t print_members(const json_t *state, const exo_keyring *k) {
    const char *id, *own = json_string_value(json_object_get(state, "node_id"));
    json_t *node;
    size_t n = 0;
    json_object_foreach(json_object_get(state, "nodes"), id, node) {
        if (own != NULL && strcmp(id, own) == 0) continue;
        if (exo_keyring_is_removed(k, id)) continue;
        const char *name = json_string_value(json_object_get(node, "name"));
        printf("  %s (%s)\n", name != NULL ? name : "?", id);
        n++;
    }
    return n;
}

static int rekey(int argc, char **argv) {
    const exo_command *c = &exo_cmd_rekey;
    const char *data_dir = NULL;
    const exo_option options[] = {{.name = "data-dir", .value = &data_dir}, {0}};
    int rc = exo_cli_parse(c, argc, argv, options, NULL, 0);
    if (rc != EXO_EXIT_OK) return rc;
    if (data_dir == NULL) data_dir = exo_cli_data_dir();
    exo_error err = {0};
    json_t *state;
    exo_status st = exo_cli_local_state(data_dir, &state, &err);
    if (st == EXO_OK && key_is_given(state)) st = exo_error_set(&err, EXO_EINVAL, GIVEN_KEY);
    exo_keyring after = {0};
    if (st == EXO_OK) st = exo_keyring_change(data_dir, rotate, NULL, &after, &err);
    if (st == EXO_OK) {
        printf("the cluster has a new key (generation %u); it goes to the nodes that are linked "
               "now:\n",
               after.generation);
        if (print_members(state, &after) == 0) printf("  none\n");
        printf("nodes that are off need a join code to come back (`exo invite`)\n");
    }
    exo_keyring_finish(&after);
    json_decref(state);
    return st == EXO_OK ? EXO_EXIT_OK : exo_cli_fail(&err);
}

/* ---- remove ---- */

static exo_status find_other(const json_t *state, const char *word, char out[EXO_NODE_ID_BYTES],
                             exo_error *err) {
    const char *own = json_string_value(json_object_get(state, "node_id"));
    exo_status st = exo_cli_find_node(state, word, out, err);
    if (st != EXO_OK || own == NULL || strcmp(own, out) != 0) return st;
    return exo_error_set(err, EXO_EINVAL, "%s is this node: `exo leave` takes it out", word);
}

static exo_status mark_removed(void *ud, exo_keyring *k, exo_error *err) {
    return exo_keyring_set_removed(k, ud, true, err);
}

static int remove_node(int argc, char **argv) {
    const exo_command *c = &exo_cmd_remove;
    const char *data_dir = NULL, *word;
    bool yes = false;
    const exo_option options[] = {
        {.name = "data-dir", .value = &data_dir}, {.name = "yes", .seen = &yes}, {0}};
    int rc = exo_cli_parse(c, argc, argv, options, &word, 1);
    if (rc != EXO_EXIT_OK) return rc;
    if (word == NULL) return exo_cli_usage(c, "the node's name or id is missing");
    if (data_dir == NULL) data_dir = exo_cli_data_dir();
    exo_error err = {0};
    json_t *state;
    char id[EXO_NODE_ID_BYTES], question[256];
    exo_status st = exo_cli_local_state(data_dir, &state, &err);
    if (st == EXO_OK) st = find_other(state, word, id, &err);
    json_decref(state);
    if (st != EXO_OK) return exo_cli_fail(&err);
    snprintf(question, sizeof question, "Remove node %s (%s) from the cluster?", word, id);
    if (!yes && !ask_yes(question)) {
        exo_error_set(&err, EXO_ECANCELED, "nothing was removed");
        return exo_cli_fail(&err);
    }
    st = exo_keyring_change(data_dir, mark_removed, id, NULL, &err);
    if (st != EXO_OK) return exo_cli_fail(&err);
    bool by_id = strcmp(word, id) == 0;
    printf("removed %s%s%s%s; it still knows the cluster's key: `exo rekey` makes a new one\n",
           word, by_id ? "" : " (", by_id ? "" : id, by_id ? "" : ")");
    return EXO_EXIT_OK;
}

const exo_command exo_cmd_join = {
    .name = "join",
    .summary = "join a cluster with a code from `exo invite`",
    .help = "usage: exo join CODE [--yes] [--peer HOST:PORT]... [--name N] [--data-dir D]\n\n"
            "Finds the node that gave the code out, asks once, and stores the cluster's key in\n"
            "the data directory.  A node that runs with it changes over at once.\n"
            "  CODE            six words, or what the QR code holds\n"
            "  --yes           do not ask\n"
            "  --peer H:P      the inviting node, where it cannot be heard on the network\n"
            "  --name N        what the cluster calls this device (default: the host name)\n"
            "  --data-dir D    default: EXO_HOME or ~/.exo\n\n"
            "  exo join amberbird-bluerock-cedarlamp-mintstar-plumwolf-snowhill\n",
    .run = join,
};

const exo_command exo_cmd_leave = {
    .name = "leave",
    .summary = "leave the cluster: this device is one of its own again",
    .help = "usage: exo leave [--data-dir D]\n\n"
            "Forgets the cluster's key and makes a new one for this device alone.\n"
            "  --data-dir D    default: EXO_HOME or ~/.exo\n\n"
            "  exo leave\n",
    .run = leave,
};

const exo_command exo_cmd_rekey = {
    .name = "rekey",
    .summary = "give the cluster a new key",
    .help = "usage: exo rekey [--data-dir D]\n\n"
            "Makes a new cluster key and hands it to the nodes that are linked now.  Removed\n"
            "nodes, and nodes that are off, are left with the old one.\n"
            "  --data-dir D    of the running node (default: EXO_HOME or ~/.exo)\n\n"
            "  exo rekey\n",
    .run = rekey,
};

const exo_command exo_cmd_remove = {
    .name = "remove",
    .summary = "take a node out of the cluster",
    .help = "usage: exo remove NODE [--yes] [--data-dir D]\n\n"
            "All nodes refuse links of that node from now on, whatever keys it holds.  A new join\n"
            "code lets it come back.\n"
            "  NODE            name or id\n"
            "  --yes           do not ask\n"
            "  --data-dir D    of the running node (default: EXO_HOME or ~/.exo)\n\n"
            "  exo remove phone\n",
    .run = remove_node,
};
