/* options.c - see options.h. */
#include "sim/options.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_MS (1000u * 86400u * 366u)

typedef struct {
    const sim_options *o;
    char **at, **end;
} reader;

static _Noreturn void help(const sim_options *o) {
    printf(
        "usage: %s [--seeds N [--from S] | --seed S] [options]\n"
        "\n"
        "  --seeds N        so many runs, each from its own seed (100); the first one that breaks\n"
        "                   a rule is printed with its replay, and ends them with status 1\n"
        "  --from S         the first seed (1)\n"
        "  --seed S         this one run\n"
        "  --trace          print what happens in it\n"
        "  --nodes K, A-B   nodes in each run, or drawn from a range (%u to %u)\n"
        "  --ms T           virtual milliseconds with faults\n"
        "  --peace          no faults\n"
        "  --progress N     a line every N seeds\n"
        "  --plants         look for every planted bug within the seeds; status 1: one was missed\n"
        "  --plant NAME     plant this bug in the runs asked for:\n",
        o->tool, o->fewest_nodes, o->most_nodes);
    const char *name;
    for (uint32_t i = 1; (name = o->plant_name(i)) != NULL; i++) {
        printf("                     %s\n", name);
    }
    exit(0);
}

static _Noreturn void refuse(const reader *r, const char *what, const char *value) {
    fprintf(stderr, "%s: %s%s%s\n", r->o->tool, what, value != NULL ? " " : "",
            value != NULL ? value : "");
    exit(2);
}

static const char *value_of(reader *r) {
    const char *name = *r->at;
    if (r->at + 1 >= r->end) refuse(r, "a value is missing behind", name);
    return *++r->at;
}

/* Digits up to `stop` and no more; ends the program with what is wrong. */
static uint64_t digits(const reader *r, const char **text, char stop, uint64_t most) {
    char *end;
    const char *begin = *text;
    uint64_t v = strtoull(begin, &end, 10);
    if (begin[0] < '0' || begin[0] > '9' || (*end != '\0' && *end != stop)) {
        refuse(r, "not a number:", begin);
    }
    if (end - begin > 19 || v > most) {
        fprintf(stderr, "%s: %.*s is too much; at most %" PRIu64 "\n", r->o->tool,
                (int)(end - begin), begin, most);
        exit(2);
    }
    *text = *end == stop && stop != '\0' ? end + 1 : end;
    return v;
}

static uint64_t number(reader *r, uint64_t most) {
    const char *text = value_of(r);
    return digits(r, &text, '\0', most);
}

static uint64_t number_from_1(reader *r, uint64_t most) {
    uint64_t v = number(r, most);
    if (v == 0) refuse(r, "at least 1 is wanted by", r->at[-1]);
    return v;
}

static void read_nodes(reader *r, sim_options *o) {
    const char *text = value_of(r);
    bool range = strchr(text, '-') != NULL;
    o->min_nodes = (uint32_t)digits(r, &text, '-', o->most_nodes);
    o->max_nodes = range ? (uint32_t)digits(r, &text, '\0', o->most_nodes) : o->min_nodes;
    if (o->min_nodes < o->fewest_nodes || o->max_nodes < o->min_nodes) {
        fprintf(stderr, "%s: --nodes takes %u to %u nodes, or a range of them like 5-50\n", o->tool,
                o->fewest_nodes, o->most_nodes);
        exit(2);
    }
}

static uint32_t plant_of(const reader *r, const char *name) {
    const char *known;
    for (uint32_t i = 1; (known = r->o->plant_name(i)) != NULL; i++) {
        if (strcmp(known, name) == 0) return i;
    }
    refuse(r, "no planted bug is called", name);
}

static void read_option(reader *r, sim_options *o) {
    const char *name = *r->at;
    if (strcmp(name, "--seeds") == 0) {
        o->n_seeds = number_from_1(r, UINT64_MAX / 2);
    } else if (strcmp(name, "--from") == 0) {
        o->from = number(r, UINT64_MAX / 2);
    } else if (strcmp(name, "--seed") == 0) {
        o->seed = number(r, UINT64_MAX / 2);
        o->one = true;
    } else if (strcmp(name, "--nodes") == 0) {
        read_nodes(r, o);
    } else if (strcmp(name, "--ms") == 0) {
        o->run_ms = number_from_1(r, MAX_MS);
    } else if (strcmp(name, "--plants") == 0) {
        o->plants = true;
    } else if (strcmp(name, "--plant") == 0) {
        o->plant = plant_of(r, value_of(r));
    } else if (strcmp(name, "--peace") == 0) {
        o->peace = true;
    } else if (strcmp(name, "--trace") == 0) {
        o->trace = true;
    } else if (strcmp(name, "--progress") == 0) {
        o->progress = number(r, UINT64_MAX / 2);
    } else if (strcmp(name, "--help") == 0) {
        help(o);
    } else {
        refuse(r, "unknown option", name);
    }
}

void sim_options_read(sim_options *o, int argc, char **argv) {
    reader r = {o, argv + 1, argv + argc};
    for (; r.at < r.end; r.at++) read_option(&r, o);
}

void sim_options_print(const sim_options *o) {
    if (o->min_nodes != 0) printf(" --nodes %u", o->min_nodes);
    if (o->max_nodes > o->min_nodes) printf("-%u", o->max_nodes);
    if (o->run_ms != 0) printf(" --ms %" PRIu64, o->run_ms);
    if (o->peace) printf(" --peace");
    if (o->plant != 0) printf(" --plant %s", o->plant_name(o->plant));
}

double sim_seconds(void) {
    struct timespec t;
    timespec_get(&t, TIME_UTC);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}
