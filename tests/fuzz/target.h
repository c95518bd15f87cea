/* target.h - what every fuzz target has: its entry, and a check that ends the run. */
#ifndef EXO_TESTS_FUZZ_TARGET_H
#define EXO_TESTS_FUZZ_TARGET_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Defined by the target, called by libFuzzer or replay.c with one input. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                             \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#endif
