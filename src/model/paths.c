/* paths.c - parsing of model file names, from the end backwards. */
#include "model/paths.h"

#include <string.h>

#define SUFFIX     ".gguf"
#define SUFFIX_N   5
#define SPLIT_N    15 /* "-00001-of-00003" */
#define TAIL_BYTES 100

static bool five_digits(const char *s, uint32_t *out) {
    uint32_t v = 0;
    for (int i = 0; i < 5; i++) {
        if (s[i] < '0' || s[i] > '9') return false;
        v = v * 10 + (uint32_t)(s[i] - '0');
    }
    *out = v;
    return true;
}

static bool ends_in_gguf(const char *path, size_t n) {
    return n > SUFFIX_N && memcmp(path + n - SUFFIX_N, SUFFIX, SUFFIX_N) == 0;
}

bool exo_path_split(const char *path, exo_split_name *out) {
    *out = (exo_split_name){0};
    size_t n = strlen(path);
    if (n <= SPLIT_N + SUFFIX_N || !ends_in_gguf(path, n)) return false;
    const char *s = path + n - SUFFIX_N - SPLIT_N;
    exo_split_name found = {.stem_n = n - SUFFIX_N - SPLIT_N};
    if (s[0] != '-' || !five_digits(s + 1, &found.no)) return false;
    if (memcmp(s + 6, "-of-", 4) != 0 || !five_digits(s + 10, &found.count)) return false;
    if (found.no == 0 || found.no > found.count) return false;
    *out = found;
    return true;
}

const char *exo_path_id(const char *path, size_t *n) {
    size_t end = strlen(path), begin;
    while (end > 1 && path[end - 1] == '/') end--; /* a folder's path may end in slashes */
    for (begin = end; begin > 0 && path[begin - 1] != '/';) begin--;
    const char *id = path + begin;
    exo_split_name split;
    *n = end - begin;
    if (id[*n] == '/') return id;
    if (exo_path_split(id, &split)) {
        *n = split.stem_n;
    } else if (ends_in_gguf(id, *n)) {
        *n -= SUFFIX_N;
    }
    return id;
}

const char *exo_path_tail(const char *path) {
    size_t n = strlen(path);
    return n <= TAIL_BYTES ? path : path + n - TAIL_BYTES;
}
