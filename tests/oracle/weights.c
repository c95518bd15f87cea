/* weights.c - exo's decoding and quantising of weight blocks as a filter, for test_weights.py.
 *
 *   weights decode TYPE < blocks > f32     weights encode TYPE < f32 > blocks
 * The input is one row. */
#include "compute/blocks.h"
#include "compute/quantize.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint8_t *read_all(size_t *n) {
    size_t cap = 1 << 20;
    uint8_t *bytes = malloc(cap);
    *n = 0;
    while (bytes != NULL) {
        size_t got = fread(bytes + *n, 1, cap - *n, stdin);
        *n += got;
        if (got == 0) break;
        if (*n < cap) continue;
        cap *= 2;
        uint8_t *more = realloc(bytes, cap);
        if (more == NULL) free(bytes);
        bytes = more;
    }
    return bytes;
}

int main(int argc, char **argv) {
    exo_dtype type;
    size_t n;
    exo_error err = {0};
    if (argc != 3 || exo_dtype_parse(argv[2], &type) != EXO_OK) return 2;
    const exo_dtype_info *info = exo_dtype_get(type);
    uint8_t *in = read_all(&n);
    bool decode = strcmp(argv[1], "decode") == 0;
    size_t elems = decode ? n / info->block_bytes * info->block_elems : n / sizeof(float);
    size_t bytes = decode ? elems * sizeof(float) : exo_dtype_row_bytes(type, elems);
    void *out = malloc(bytes + 1);
    if (in == NULL || out == NULL) return 1;
    if (decode) {
        exo_dequantize(type, in, elems, out);
    } else if (exo_quantize_rows(type, (const float *)(const void *)in, 1, elems, out, &err) !=
               EXO_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    bool ok = fwrite(out, 1, bytes, stdout) == bytes;
    free(in);
    free(out);
    return ok ? 0 : 1;
}
