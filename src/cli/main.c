/* main.c - `exo`: the command table, --help and --version. */
#define _DEFAULT_SOURCE /* _exit */
#include "cli/cli.h"

#include "base/log.h"
#include "cli/devices_vulkan.h"

#include <exo/version.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const exo_command *const commands[] = {
    &exo_cmd_run,      &exo_cmd_serve,      &exo_cmd_node,   &exo_cmd_check,   &exo_cmd_tokenize,
    &exo_cmd_template, &exo_cmd_perplexity, &exo_cmd_bench,  &exo_cmd_devices, &exo_cmd_synth,
    &exo_cmd_pull,     &exo_cmd_models,     &exo_cmd_embed,  &exo_cmd_convert, &exo_cmd_invite,
    &exo_cmd_join,     &exo_cmd_leave,      &exo_cmd_remove, &exo_cmd_rekey,   &exo_cmd_doctor,
    &exo_cmd_nodes,    &exo_cmd_top,
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static void print_help(FILE *to) {
    fprintf(to, "exo runs one language model on the devices you already own.\n\n"
                "usage: exo [COMMAND] [OPTIONS]\n\n");
    for (size_t i = 0; i < N_COMMANDS; i++) {
        fprintf(to, "  %-11s %s\n", commands[i]->name, commands[i]->summary);
    }
    fprintf(to, "\nWithout a command exo starts a node with its API on port 52415.\n"
                "`exo COMMAND --help` shows options and an example; -m takes a file, a model id, "
                "or tiny.\n\n"
                "  exo run -m tiny -p \"What is exo?\"\n");
}

static bool asks_for_help(int argc, char **argv) {
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--") == 0) return false;
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return true;
    }
    return false;
}

int main(int argc, char **argv) {
    exo_log_init();
    signal(SIGXFSZ, SIG_IGN); /* a file beyond the limit is an error of that write */
    int child;
    if (exo_cli_vulkan_child(argc, argv, &child)) _exit(child);
    if (!exo_cli_keep_packed(exo_cli_data_dir())) return EXO_EXIT_USAGE;
    const char *name = argc > 1 ? argv[1] : "node";
    if (strcmp(name, "--version") == 0) {
        printf("exo %s (commit %s; %s)\n", EXO_VERSION, EXO_COMMIT, EXO_BUILD_OPTIONS);
        return EXO_EXIT_OK;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help(stdout);
        return EXO_EXIT_OK;
    }
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(commands[i]->name, name) != 0) continue;
        int n = argc > 2 ? argc - 2 : 0;
        if (asks_for_help(n, argv + 2)) {
            printf("%s", commands[i]->help);
            return EXO_EXIT_OK;
        }
        return commands[i]->run(n, argv + 2);
    }
    fprintf(stderr, "exo: unknown command \"%s\" (`exo --help` lists them)\n", name);
    return EXO_EXIT_USAGE;
}
