/* cli.h - the command table and what the commands share: options, numbers, errors, progress.
 *
 * Exit codes: 0 done, 1 the request failed, 2 bad usage.  Errors are one line on stderr.
 * Thread: main. */
#ifndef EXO_CLI_CLI_H
#define EXO_CLI_CLI_H

#include "base/buf.h"
#include "model/model.h"

#include <jansson.h>

enum { EXO_EXIT_OK = 0, EXO_EXIT_FAILED = 1, EXO_EXIT_USAGE = 2 };

typedef struct {
    const char *name;
    const char *summary; /* one line of `exo --help` */
    const char *help;    /* all of `exo NAME --help`, with an example */
    int (*run)(int argc, char **argv);
} exo_command;

extern const exo_command exo_cmd_run, exo_cmd_serve, exo_cmd_node, exo_cmd_check, exo_cmd_tokenize,
    exo_cmd_template, exo_cmd_bench, exo_cmd_perplexity, exo_cmd_synth, exo_cmd_devices,
    exo_cmd_pull, exo_cmd_models, exo_cmd_embed, exo_cmd_convert, exo_cmd_invite, exo_cmd_join,
    exo_cmd_leave, exo_cmd_remove, exo_cmd_rekey, exo_cmd_doctor, exo_cmd_nodes, exo_cmd_top;

/* ---- options ---- */

/* One option of a command.  Without value: seen is set. */
typedef struct {
    const char *name; /* "temp" for --temp; one letter: -n as well as --n */
    const char **value;
    bool *seen;
    const char **list; /* repeatable: values, EXO_CLI_MAX_LIST at most */
    size_t *n_list;
} exo_option;
#define EXO_CLI_MAX_LIST 64

/* Fills options and, in order, the words that are none into words (n_words at most; fewer are
 * NULL).  Returns EXO_EXIT_OK, or EXO_EXIT_USAGE after one line on stderr. */
int exo_cli_parse(const exo_command *c, int argc, char **argv, const exo_option *options,
                  const char **words, size_t n_words);

/* Prints "exo NAME: message (see `exo NAME --help`)" and returns EXO_EXIT_USAGE. */
int exo_cli_usage(const exo_command *c, const char *fmt, ...) EXO_PRINTF(2, 3);
/* Prints "exo: message" and returns EXO_EXIT_FAILED. */
int exo_cli_fail(const exo_error *err);

/* text NULL leaves *out alone.  False after one line on stderr: not a number, or out of range. */
bool exo_cli_u32(const exo_command *c, const char *name, const char *text, uint32_t min,
                 uint32_t max, uint32_t *out);
bool exo_cli_u64(const exo_command *c, const char *name, const char *text, uint64_t *out);
bool exo_cli_float(const exo_command *c, const char *name, const char *text, double min, double max,
                   float *out);

/* --kv TYPE (NULL: as --kv-f16 left it): f32, f16 or q8_0; false after one line on stderr. */
bool exo_cli_kv(const exo_command *c, const char *text, bool *f16, bool *q8_0);
/* --pin and --numa, beside EXO_PIN and EXO_NUMA; before a model is loaded.  False after one line on
 * stderr. */
bool exo_cli_place(bool pin, bool numa);
/* False after one line on stderr: not a device's name.  NULL is the default. */
bool exo_cli_device(const exo_command *c, const char *text);

/* ---- shared ---- */

/* EXO_HOME, or ~/.exo. */
const char *exo_cli_data_dir(void);
/* Packed weights are kept in this directory, as EXO_PACK_CACHE says; false after one line on
 * stderr: it says nothing known. */
bool exo_cli_keep_packed(const char *data_dir);
/* Opens what -m names. */
exo_status exo_cli_open_model(const char *name, exo_model **out, exo_error *err);
/* The same as a bare file: its vocabulary is enough for some commands. */
exo_status exo_cli_open_file(const char *name, exo_gguf **out, exo_error *err);
/* The model at a path, all of it checked; of an architecture that exo does not know, and of a
 * vocabulary without tensors, only the file:
 * one of *model and *file is set, and the caller's. */
exo_status exo_cli_open_checked(const char *path, exo_model **model, exo_gguf **file,
                                exo_error *err);
/* All of standard input, at most limit bytes. */
exo_status exo_cli_read_stdin(exo_buf *out, size_t limit, exo_error *err);
exo_status exo_cli_read_file(const char *path, exo_buf *out, size_t limit, exo_error *err);
/* Prints j and a newline on stdout; takes it. */
int exo_cli_print_json(json_t *j_take);
/* Resident memory of this process in bytes; 0 where the system does not tell. */
uint64_t exo_cli_rss_bytes(void);

/* From now on SIGINT and SIGTERM are noted: work that is asked about its progress ends well. */
void exo_cli_catch_signals(void);
bool exo_cli_interrupted(void);

/* A progress bar on stderr, drawn when the work takes longer than a second and stderr is a
 * terminal. */
typedef struct {
    const char *what; /* "loading tiny" */
    uint64_t begin_ms, drawn_ms;
} exo_bar;
bool exo_cli_progress(void *bar, uint64_t done, uint64_t total); /* false: interrupted */
void exo_cli_progress_end(exo_bar *bar);

#endif
