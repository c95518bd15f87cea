/* progress.c - one line on a terminal for work that takes longer than a second, and how it is
 * interrupted. */
#define _DEFAULT_SOURCE
#include "base/clock.h"
#include "cli/cli.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define BAR_WIDTH    30
#define BAR_AFTER_MS 1000
#define BAR_EVERY_MS 100

static volatile sig_atomic_t interrupted;

static void on_signal(int sig) {
    (void)sig;
    interrupted = 1;
}

void exo_cli_catch_signals(void) {
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    struct sigaction old; /* nohup ignores it, and that stays */
    if (sigaction(SIGHUP, NULL, &old) == 0 && old.sa_handler != SIG_IGN) {
        sigaction(SIGHUP, &sa, NULL);
    }
    signal(SIGPIPE, SIG_IGN);
}

bool exo_cli_interrupted(void) { return interrupted != 0; }

bool exo_cli_progress(void *bar, uint64_t done, uint64_t total) {
    exo_bar *b = bar;
    if (exo_cli_interrupted()) return false;
    uint64_t now = exo_now_ms();
    if (b->begin_ms == 0) b->begin_ms = now;
    if (now - b->begin_ms < BAR_AFTER_MS || now - b->drawn_ms < BAR_EVERY_MS || total == 0) {
        return true;
    }
    if (!isatty(STDERR_FILENO)) return true;
    b->drawn_ms = now;
    double part = (double)done / (double)total, seconds = (double)(now - b->begin_ms) / 1000.0;
    int full = (int)(part * BAR_WIDTH);
    fprintf(stderr, "\r%s [", b->what);
    for (int i = 0; i < BAR_WIDTH; i++) fputc(i < full ? '#' : '.', stderr);
    fprintf(stderr, "] %3.0f %%  %.0f s left ", part * 100.0,
            part > 0 ? seconds * (1.0 - part) / part : 0.0);
    fflush(stderr);
    return true;
}

void exo_cli_progress_end(exo_bar *b) {
    if (b->drawn_ms != 0) fprintf(stderr, "\r\033[K");
    *b = (exo_bar){.what = b->what};
}
