/* cmd_node.c - `exo serve` and `exo node`: a node with its API, until SIGINT or SIGTERM.
 *
 * serve is a node without links: one machine, one model. */
#define _DEFAULT_SOURCE
#include "api/http.h"
#include "base/host.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/local.h"
#include "net/addr.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define API_PORT  52415u
#define LINK_PORT 52416u

typedef struct {
    const char *models[EXO_CLI_MAX_LIST], *peers[EXO_CLI_MAX_LIST], *devices[EXO_CLI_MAX_LIST];
    size_t n_models, n_peers, n_devices;
    const char *listen, *port, *api_port, *data_dir, *name, *name_space;
    const char *threads, *ctx, *parallel, *chunk;
    bool kv_f16, wire_f16, no_discovery, pin, numa;
    const char *kv;
} node_options;

static bool numbers(const exo_command *c, const node_options *o, exo_node_desc *d) {
    d->kv_f16 = o->kv_f16;
    return exo_cli_kv(c, o->kv, &d->kv_f16, &d->kv_q8_0) &&
           exo_cli_u32(c, "threads", o->threads, 1, 1024, &d->n_threads) &&
           exo_cli_u32(c, "ctx", o->ctx, 2, 1u << 24, &d->ctx_tokens) &&
           exo_cli_u32(c, "parallel", o->parallel, 1, 256, &d->max_seqs) &&
           exo_cli_u32(c, "chunk", o->chunk, 1, 2048, &d->chunk_tokens) &&
           exo_cli_place(o->pin, o->numa);
}

static void block_signals(sigset_t *set) {
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, set, NULL); /* threads made later inherit it */
    signal(SIGPIPE, SIG_IGN);
}

/* What became of the placement that `exo serve` begins with. */
typedef struct {
    atomic_bool ending; /* by a signal or another failure: a lost placement is no news */
    atomic_bool failed;
} load_state;

/* A model that cannot be loaded ends `exo serve`. */
static void on_placed(void *ud, exo_status status, const char *instance_id, const char *message) {
    load_state *l = ud;
    (void)instance_id;
    if (status == EXO_OK) {
        exo_info("ready to answer %.2f s after exec", (double)exo_host_process_us() * 1e-6);
    }
    if (status == EXO_OK || atomic_load(&l->ending)) return;
    fprintf(stderr, "exo: %s\n", message);
    atomic_store(&l->failed, true);
    kill(getpid(), SIGTERM);
}

/* Runs node and API until a signal.  load: a model to place at once, or NULL. */
static int run_until_signal(const exo_node_desc *d, uint16_t api_port, const char *load) {
    sigset_t signals;
    exo_error err = {0};
    exo_node *node = NULL;
    exo_api *api = NULL;
    load_state state = {0};
    block_signals(&signals);
    if (!exo_cli_keep_packed(d->data_dir)) return EXO_EXIT_USAGE;
    exo_status st = exo_node_start(d, &node, &err);
    if (st != EXO_OK) return exo_cli_fail(&err);
    if (load != NULL) {
        json_t *models = exo_node_models(node);
        const char *id = json_string_value(json_object_get(json_array_get(models, 0), "id"));
        exo_placement_wish wish = {.sharding = "Pipeline", .min_nodes = 1};
        st = exo_node_place(node, id, &wish, on_placed, &state, &err);
        json_decref(models);
    }
    exo_api_desc ad = {.node = node,
                       .addr = "127.0.0.1",
                       .port = api_port,
                       .port_option = d->listen_addr != NULL ? "--api-port" : "--port"};
    if (st == EXO_OK) st = exo_api_start(&ad, &api, &err);
    if (st == EXO_OK) {
        printf("node %s", exo_node_id(node));
        if (d->listen_addr != NULL) {
            printf(", links on port %u", exo_node_listen_port(node));
            exo_cli_note_api(d->data_dir, exo_api_port(api));
        }
        printf("\nAPI on http://127.0.0.1:%u\n", exo_api_port(api));
        fflush(stdout);
        int sig;
        sigwait(&signals, &sig);
    }
    atomic_store(&state.ending, true);
    exo_node_end_answers(node);
    exo_api_stop(api);
    exo_node_stop(node);
    if (st != EXO_OK) return exo_cli_fail(&err);
    return atomic_load(&state.failed) ? EXO_EXIT_FAILED : EXO_EXIT_OK;
}

static int serve(int argc, char **argv) {
    const exo_command *c = &exo_cmd_serve;
    node_options o = {0};
    const char *model = NULL;
    const exo_option options[] = {{.name = "m", .value = &model},
                                  {.name = "port", .value = &o.port},
                                  {.name = "data-dir", .value = &o.data_dir},
                                  {.name = "device", .list = o.devices, .n_list = &o.n_devices},
                                  {.name = "threads", .value = &o.threads},
                                  {.name = "pin", .seen = &o.pin},
                                  {.name = "numa", .seen = &o.numa},
                                  {.name = "ctx", .value = &o.ctx},
                                  {.name = "parallel", .value = &o.parallel},
                                  {.name = "chunk", .value = &o.chunk},
                                  {.name = "kv", .value = &o.kv},
                                  {.name = "kv-f16", .seen = &o.kv_f16},
                                  {0}};
    int rc = exo_cli_parse(c, argc, argv, options, NULL, 0);
    if (rc != EXO_EXIT_OK) return rc;
    if (model == NULL) return exo_cli_usage(c, "-m MODEL is missing");
    uint32_t port = API_PORT;
    exo_node_desc d = {.data_dir = o.data_dir != NULL ? o.data_dir : exo_cli_data_dir(),
                       .device = o.devices[0],
                       .models = &model,
                       .n_models = 1};
    if (!exo_cli_device(c, d.device) || !numbers(c, &o, &d) ||
        !exo_cli_u32(c, "port", o.port, 0, 65535, &port)) {
        return EXO_EXIT_USAGE;
    }
    return run_until_signal(&d, (uint16_t)port, model);
}

static bool peers_are_addresses(const exo_command *c, const node_options *o) {
    for (size_t i = 0; i < o->n_peers; i++) {
        exo_addr addr;
        exo_error err = {0};
        if (exo_addr_parse(o->peers[i], &addr, &err) == EXO_OK) continue;
        exo_cli_usage(c, "--peer: %s", err.message);
        return false;
    }
    return true;
}

static int node(int argc, char **argv) {
    const exo_command *c = &exo_cmd_node;
    node_options o = {0};
    const exo_option options[] = {{.name = "listen", .value = &o.listen},
                                  {.name = "port", .value = &o.port},
                                  {.name = "api-port", .value = &o.api_port},
                                  {.name = "data-dir", .value = &o.data_dir},
                                  {.name = "peer", .list = o.peers, .n_list = &o.n_peers},
                                  {.name = "device", .list = o.devices, .n_list = &o.n_devices},
                                  {.name = "name", .value = &o.name},
                                  {.name = "namespace", .value = &o.name_space},
                                  {.name = "m", .list = o.models, .n_list = &o.n_models},
                                  {.name = "no-discovery", .seen = &o.no_discovery},
                                  {.name = "threads", .value = &o.threads},
                                  {.name = "pin", .seen = &o.pin},
                                  {.name = "numa", .seen = &o.numa},
                                  {.name = "ctx", .value = &o.ctx},
                                  {.name = "parallel", .value = &o.parallel},
                                  {.name = "chunk", .value = &o.chunk},
                                  {.name = "kv", .value = &o.kv},
                                  {.name = "kv-f16", .seen = &o.kv_f16},
                                  {.name = "wire-f16", .seen = &o.wire_f16},
                                  {0}};
    int rc = exo_cli_parse(c, argc, argv, options, NULL, 0);
    if (rc != EXO_EXIT_OK) return rc;
    if (o.n_devices > 1) return exo_cli_usage(c, "one --device per node so far");
    if (!peers_are_addresses(c, &o)) return EXO_EXIT_USAGE;
    if (o.name_space != NULL && o.name_space[0] == '\0') {
        return exo_cli_usage(c, "--namespace is empty; leave it out for the usual one");
    }
    const char *key;
    if (!exo_cli_cluster_key(c, &key)) return EXO_EXIT_USAGE;
    uint32_t port = LINK_PORT, api_port = API_PORT;
    char api_addr[32];
    exo_node_desc d = {.data_dir = o.data_dir != NULL ? o.data_dir : exo_cli_data_dir(),
                       .name = o.name,
                       .api_addr = api_addr,
                       .peers = o.peers,
                       .n_peers = o.n_peers,
                       .cluster_key = key,
                       .name_space = o.name_space,
                       .listen_addr = o.listen != NULL ? o.listen : "*",
                       .port_may_differ = o.port == NULL,
                       .discovery = !o.no_discovery,
                       .device = o.devices[0],
                       .models = o.models,
                       .n_models = o.n_models,
                       .wire_f16 = o.wire_f16};
    if (!exo_cli_device(c, d.device) || !numbers(c, &o, &d) ||
        !exo_cli_u32(c, "port", o.port, 0, 65535, &port) ||
        !exo_cli_u32(c, "api-port", o.api_port, 0, 65535, &api_port)) {
        return EXO_EXIT_USAGE;
    }
    snprintf(api_addr, sizeof api_addr, "127.0.0.1:%u", (unsigned)api_port);
    d.listen_port = (uint16_t)port;
    return run_until_signal(&d, (uint16_t)api_port, NULL);
}

const exo_command exo_cmd_serve = {
    .name = "serve",
    .summary = "serve one model from this machine",
    .help = "usage: exo serve -m MODEL [--port P] [OPTIONS]\n\n"
            "  -m MODEL       a GGUF file, a model id, or tiny (built in)\n"
            "  --port P       API port on 127.0.0.1 (default 52415; 0 = any free one)\n"
            "  --parallel N   answers at once (default 8)\n"
            "  --ctx N        context in tokens (default: the model's, at most 8192)\n"
            "  --threads N    default: all cores\n"
            "  --pin          bind each thread but the first to a core of its own\n"
            "  --numa         place threads and weights on all memory nodes\n"
            "  --chunk N      prompt tokens per step (default: sized to 100 ms)\n"
            "  --kv TYPE      keys and values in f32 (default), f16 or q8_0; --kv-f16 is --kv f16\n"
            "  --device D     default cpu:0; the CPU takes over where a GPU cannot be used\n"
            "  --data-dir D   identity and models (default: EXO_HOME or ~/.exo)\n\n"
            "  exo serve -m tiny --port 8080\n"
            "  curl http://127.0.0.1:8080/v1/chat/completions -d '{\"model\": \"tiny\",\n"
            "    \"messages\": [{\"role\": \"user\", \"content\": \"What is exo?\"}]}'\n",
    .run = serve,
};

const exo_command exo_cmd_node = {
    .name = "node",
    .summary = "run a cluster node (the same as plain `exo`)",
    .help = "usage: exo node [--listen ADDR] [--port P] [--peer HOST:PORT]... [OPTIONS]\n\n"
            "Nodes of one cluster find each other on the network and link up, encrypted. A new\n"
            "node is a cluster of its own until `exo join CODE` (see `exo invite`), or until it\n"
            "gets the cluster's passphrase of 10 characters or more in EXO_CLUSTER_KEY.\n"
            "  --listen ADDR    address for links (default: every interface)\n"
            "  --port P         port for links (default 52416, or a free one; 0 = any free one)\n"
            "  --peer H:P       a node of the cluster; one is enough; may be repeated\n"
            "                   (DATA_DIR/peers may list some, one a line)\n"
            "  --api-port A     API port on 127.0.0.1 (default 52415; 0 = any free one)\n"
            "  -m FILE          add a model file (or tiny); may be repeated\n"
            "  --data-dir D     identity and models (default: EXO_HOME or ~/.exo)\n"
            "  --name N         what people call this node (default: the host name)\n"
            "  --namespace S    keeps clusters on one network apart\n"
            "  --device D       default cpu:0; the CPU takes over where a GPU cannot be used\n"
            "  --threads N --pin --numa --ctx N --parallel N --chunk N --kv TYPE\n"
            "                   as in `exo serve`\n"
            "  --wire-f16       send activations in f16\n"
            "  --no-discovery   only --peer finds nodes\n\n"
            "  EXO_CLUSTER_KEY='correct horse battery' exo node -m tiny\n",
    .run = node,
};
