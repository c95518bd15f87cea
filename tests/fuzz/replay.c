/* replay.c - runs a fuzz target over the files of its corpus: usage: fuzz_NAME DIR.
 *
 * A regression found by fuzzing becomes a corpus file and so a test.  An empty or missing corpus
 * is a failure. */
#define _DEFAULT_SOURCE
#include "fuzz/target.h"

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_FILE_BYTES (1u << 20)

static int replay(const char *dir, const char *name, uint8_t *buffer) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "rb");
    if (f == NULL) return 0;
    size_t n = fread(buffer, 1, MAX_FILE_BYTES, f);
    fclose(f);
    uint8_t *exact = malloc(n == 0 ? 1 : n); /* so that a read past the end is seen */
    if (exact == NULL) return 0;
    for (size_t i = 0; i < n; i++) exact[i] = buffer[i];
    LLVMFuzzerTestOneInput(exact, n);
    free(exact);
    return 1;
}

int main(int argc, char **argv) {
    DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
    uint8_t *buffer = malloc(MAX_FILE_BYTES);
    int n = 0;
    if (dir == NULL || buffer == NULL) {
        fprintf(stderr, "usage: %s CORPUS_DIR (which must exist)\n", argv[0]);
        free(buffer);
        return 1;
    }
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        if (e->d_name[0] != '.') n += replay(argv[1], e->d_name, buffer);
    }
    closedir(dir);
    free(buffer);
    printf("%d files of %s replayed\n", n, argv[1]);
    return n > 0 ? 0 : 1;
}
