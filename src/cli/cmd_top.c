/* cmd_top.c - `exo top`: the cluster on a whole screen, as the node that runs here knows it.
 *
 * Plain ANSI on the alternate screen.  Whatever ends it (q, Ctrl-C, a signal, the terminal's end)
 * gives the terminal back as it was.  Without a terminal it prints one picture and ends. */
#define _DEFAULT_SOURCE
#include "cli/cli.h"
#include "cli/local.h"
#include "cli/table.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define EVERY_MS      1000
#define DEFAULT_LINES 24
#define ESCAPE        "\x1b"
#define ENTER         ESCAPE "[?1049h" ESCAPE "[?25l" ESCAPE "[?7l" ESCAPE "[H" ESCAPE "[2J"
/* Terminals that know the mode show the picture in one piece. */
#define FRAME_BEGIN ESCAPE "[?2026h" ESCAPE "[H"
#define FRAME_END   ESCAPE "[?2026l"
#define LEAVE       ESCAPE "[?7h" ESCAPE "[?25h" ESCAPE "[?1049l"

/* ---- one picture ---- */

static const char *text_of(const json_t *j, const char *key) {
    const char *text = json_string_value(json_object_get(j, key));
    return text != NULL ? text : "";
}

static void put_line(exo_buf *out, const char *line, int columns) {
    exo_put_columns(out, line, columns > 0 ? columns : INT32_MAX);
    exo_buf_putc(out, '\n');
}

static void put_known(exo_buf *out, const char *fmt, const json_t *j, const char *key) {
    const json_t *v = json_object_get(j, key);
    if (json_is_number(v)) {
        exo_buf_printf(out, fmt, json_number_value(v));
    } else {
        exo_buf_putc(out, '-');
    }
}

static void name_of(const json_t *state, const char *id, char *out, size_t cap) {
    const char *name = text_of(json_object_get(json_object_get(state, "nodes"), id), "name");
    exo_clean_text(name[0] != '\0' ? name : id, out, cap);
}

static void put_heads(exo_buf *out, const json_t *state, int columns) {
    const json_t *c = json_object_get(json_object_get(state, "telemetry"), "cluster");
    const char *master = text_of(state, "master");
    char name[EXO_CELL_BYTES] = "none", now[16] = "";
    time_t t = time(NULL);
    struct tm local;
    exo_buf line = {0};
    if (master[0] != '\0') name_of(state, master, name, sizeof name);
    if (localtime_r(&t, &local) != NULL) strftime(now, sizeof now, "%H:%M:%S", &local);
    size_t n_nodes = json_object_size(json_object_get(state, "nodes"));
    exo_buf_printf(&line, "exo %s  %zu node%s  master %s%s  term %lld", now, n_nodes,
                   n_nodes == 1 ? "" : "s", name,
                   json_is_true(json_object_get(state, "provisional")) ? " (provisional)" : "",
                   (long long)json_integer_value(json_object_get(state, "term")));
    put_line(out, exo_buf_str(&line), columns);
    exo_buf_clear(&line);
    const json_t *used = json_object_get(c, "used_memory_bytes");
    const json_t *total = json_object_get(c, "total_memory_bytes");
    bool one = json_integer_value(json_object_get(c, "device_count")) == 1;
    put_known(&line, one ? "%.0f device" : "%.0f devices", c, "device_count");
    exo_buf_puts(&line, "  memory ");
    if (json_is_integer(used) && json_is_integer(total)) {
        exo_buf_printf(&line, "%.1f of %.1f GiB used", json_number_value(used) / 0x1p30,
                       json_number_value(total) / 0x1p30);
    } else {
        exo_buf_putc(&line, '-');
    }
    exo_buf_puts(&line, "  load ");
    put_known(&line, "%.0f %%", c, "average_utilization_percent");
    exo_buf_puts(&line, "  heat ");
    put_known(&line, "%.0f C", c, "average_temperature_celsius");
    exo_buf_puts(&line, "  power ");
    put_known(&line, "%.0f W", c, "total_power_watts");
    put_line(out, exo_buf_str(&line), columns);
    exo_buf_finish(&line);
}

typedef exo_status (*table_fn)(const json_t *state, exo_table *out, exo_error *err);

static exo_status put_table(exo_buf *out, const json_t *state, table_fn make, int columns,
                            exo_error *err) {
    exo_table t;
    exo_status st = make(state, &t, err);
    if (st != EXO_OK) return st;
    if (t.n > 1) {
        exo_buf_putc(out, '\n');
        exo_table_print(&t, columns, out);
    }
    exo_table_finish(&t);
    return EXO_OK;
}

/* Lines for so many columns; 0 = as wide as it gets. */
static exo_status picture(const json_t *state, int columns, exo_buf *out, exo_error *err) {
    static const table_fn tables[] = {exo_table_of_nodes, exo_table_of_links,
                                      exo_table_of_instances};
    exo_status st = EXO_OK;
    put_heads(out, state, columns);
    for (size_t i = 0; i < sizeof tables / sizeof tables[0] && st == EXO_OK; i++) {
        st = put_table(out, state, tables[i], columns, err);
    }
    return st == EXO_OK && !exo_buf_ok(out)
               ? exo_error_set(err, EXO_ENOMEM, "out of memory for a picture")
               : st;
}

static int print_once(const char *data_dir, int columns) {
    exo_error err = {0};
    exo_buf out = {0};
    json_t *state = NULL;
    exo_status st = exo_cli_local_state(data_dir, &state, &err);
    if (st == EXO_OK) st = picture(state, columns, &out, &err);
    if (st == EXO_OK) fputs(exo_buf_str(&out), stdout);
    json_decref(state);
    exo_buf_finish(&out);
    return st == EXO_OK ? EXO_EXIT_OK : exo_cli_fail(&err);
}

/* ---- the screen ---- */

static volatile sig_atomic_t resized;
static void on_resize(int sig) {
    (void)sig;
    resized = 1;
}

static void screen_size(int *columns, int *lines) {
    struct winsize w = {0};
    *columns = 80;
    *lines = DEFAULT_LINES;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) != 0 || w.ws_col == 0 || w.ws_row == 0) return;
    *columns = w.ws_col;
    *lines = w.ws_row;
}

/* False: the terminal is gone. */
static bool write_all(const char *bytes, size_t n) {
    while (n > 0) {
        ssize_t done = write(STDOUT_FILENO, bytes, n);
        if (done < 0 && errno == EINTR && !exo_cli_interrupted()) continue;
        if (done <= 0) return false;
        bytes += done;
        n -= (size_t)done;
    }
    return true;
}

/* One line of the screen.  It is cleared before it is written: behind a full line the cursor still
 * stands on the last character.  The last one clears all below, too. */
static void put_row(exo_buf *out, const char *text, size_t n, bool first, bool last) {
    if (!first) exo_buf_puts(out, "\r\n");
    exo_buf_puts(out, last ? ESCAPE "[J" : ESCAPE "[K");
    exo_buf_append(out, text, n);
}

/* What fits of text, from the top; what does not is counted in the last line. */
static bool draw(const char *text, int columns, int lines) {
    exo_buf out = {0}, more = {0};
    int total = 0, shown = 0;
    for (const char *c = text; *c != '\0'; c++) total += *c == '\n';
    int room = total <= lines ? total : lines - 1;
    exo_buf_puts(&out, FRAME_BEGIN);
    for (; shown < room; shown++) {
        size_t n = strcspn(text, "\n");
        put_row(&out, text, n, shown == 0, shown + 1 == total);
        text += n + (text[n] == '\n');
    }
    if (shown < total) {
        char line[64];
        snprintf(line, sizeof line, "... %d more lines", total - shown);
        exo_put_columns(&more, line, columns);
        put_row(&out, exo_buf_str(&more), more.n, shown == 0, true);
    }
    exo_buf_puts(&out, FRAME_END);
    bool ok = exo_buf_ok(&out) && write_all(exo_buf_str(&out), out.n);
    exo_buf_finish(&more);
    exo_buf_finish(&out);
    return ok;
}

/* False: a key says that it is enough, or nobody types any more. */
static bool read_key(void) {
    char c;
    if (read(STDIN_FILENO, &c, 1) != 1) return errno == EINTR;
    return c != 'q' && c != 'Q' && c != 3; /* Ctrl-C where the terminal makes no signal of it */
}

/* While the node is asked. */
static bool go_on_asking(void *ud, bool readable) {
    bool *wanted = ud;
    if (readable && !read_key()) *wanted = false;
    return *wanted && !exo_cli_interrupted();
}

/* Shows what is there now.  False: the terminal is gone, or a key says that it is enough. */
static bool refresh(const char *data_dir, bool keys) {
    exo_error err = {0};
    exo_buf out = {0};
    json_t *state = NULL;
    int columns, lines;
    screen_size(&columns, &lines);
    bool wanted = true;
    const exo_cli_patience patience = {
        .fd = keys ? STDIN_FILENO : -1, .go_on = go_on_asking, .ud = &wanted};
    exo_status st = exo_cli_local_state_while(data_dir, &patience, &state, &err);
    if (st == EXO_ECANCELED) return false;
    if (st == EXO_OK) st = picture(state, columns, &out, &err);
    if (st != EXO_OK) { /* it may come back */
        exo_buf_clear(&out);
        char line[EXO_ERROR_BYTES];
        exo_clean_text(err.message, line, sizeof line);
        put_line(&out, line, columns);
        put_line(&out, "asked again every second; q ends", columns);
    }
    bool ok = draw(exo_buf_str(&out), columns, lines);
    json_decref(state);
    exo_buf_finish(&out);
    return ok;
}

/* Waits for the next picture's time.  False: a key says that it is enough. */
static bool wait_for_key(bool keys) {
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    if (poll(&p, keys ? 1 : 0, EVERY_MS) <= 0) return true; /* time, or a signal */
    return read_key();
}

static int live(const char *data_dir) {
    struct termios before, raw;
    bool keys = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &before) == 0;
    struct sigaction sa = {.sa_handler = on_resize};
    exo_cli_catch_signals();
    sigaction(SIGWINCH, &sa, NULL);
    if (keys) {
        raw = before;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        raw.c_cc[VMIN] = 1;
        raw.c_cc[VTIME] = 0;
        raw.c_cc[VSUSP] = _POSIX_VDISABLE; /* stopped, it would leave its screen behind */
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    bool go_on = write_all(ENTER, strlen(ENTER));
    while (go_on && !exo_cli_interrupted()) {
        go_on = refresh(data_dir, keys);
        if (resized) { /* at once, for the new size */
            resized = 0;
            continue;
        }
        if (go_on && !exo_cli_interrupted()) go_on = wait_for_key(keys);
    }
    write_all(LEAVE, strlen(LEAVE));
    if (keys) tcsetattr(STDIN_FILENO, TCSANOW, &before);
    return EXO_EXIT_OK;
}

/* ---- the command ---- */

static int top(int argc, char **argv) {
    const char *data_dir = NULL, *width = NULL;
    bool once = false;
    uint32_t columns = 0;
    const exo_option options[] = {{.name = "data-dir", .value = &data_dir},
                                  {.name = "once", .seen = &once},
                                  {.name = "width", .value = &width},
                                  {0}};
    int rc = exo_cli_parse(&exo_cmd_top, argc, argv, options, NULL, 0);
    if (rc != EXO_EXIT_OK) return rc;
    if (!exo_cli_u32(&exo_cmd_top, "width", width, 1, 10000, &columns)) return EXO_EXIT_USAGE;
    if (data_dir == NULL) data_dir = exo_cli_data_dir();
    const char *term = getenv("TERM");
    bool screen = isatty(STDOUT_FILENO) && term != NULL && strcmp(term, "dumb") != 0;
    if (once || !screen) return print_once(data_dir, (int)columns);
    if (!exo_cli_node_runs(data_dir)) return print_once(data_dir, 0); /* says so */
    return live(data_dir);
}

const exo_command exo_cmd_top = {
    .name = "top",
    .summary = "the cluster on the screen, as it is now: devices, links, instances",
    .help =
        "usage: exo top [--once] [--width N] [--data-dir D]\n\n"
        "Shows the nodes that are linked with the one that runs here, once a second: memory,\n"
        "temperature, power and load of their devices, links, instances (\"-\": nobody knows).\n"
        "q ends.  Where the output is no terminal: one picture.\n"
        "  --once         one picture, then the end\n"
        "  --width N      of at most N columns (with --once; default: as wide as it gets)\n"
        "  --data-dir D   default: EXO_HOME or ~/.exo\n\n"
        "  exo top\n",
    .run = top,
};
