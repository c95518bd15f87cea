/* sensors_testing.h - a made-up tree of /proc and /sys for tests; include after cmocka.h. */
#ifndef EXO_NODE_SENSORS_TESTING_H
#define EXO_NODE_SENSORS_TESTING_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Writes a file and the folders above it. */
static inline void put(const char *root, const char *name, const char *text) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", root, name);
    mkdir(root, 0700);
    for (char *at = path + strlen(root) + 1; (at = strchr(at, '/')) != NULL; *at++ = '/') {
        *at = '\0';
        mkdir(path, 0700);
    }
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static inline int remove_tree(const char *root) {
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

#endif
