/* tensor_rows.c - see tensor_rows.h. */
#include "model/tensor_rows.h"

#include <string.h>

#define BLOCK_ELEMS 32
#define FILE_BLOCK  16 /* bytes of the file's MXFP4 blocks, without scale */
#define OWN_BLOCK   17 /* with it, before the quants */

static size_t row_bytes(const exo_tensor *t) {
    return exo_dtype_row_bytes(t->type, (size_t)t->dims[0]);
}

static void copy_part_row(const exo_tensor *t, uint64_t row, uint8_t *out) {
    const exo_tensor_rows *r = t->rows;
    uint64_t per_part = t->dims[1] * t->dims[2] * t->dims[3] / r->n_parts;
    memcpy(out, r->parts[row / per_part] + row % per_part * row_bytes(t), row_bytes(t));
}

/* Which row of all matrices in the file. */
static uint64_t file_row(const exo_tensor *t, uint64_t row) {
    const exo_tensor_rows *r = t->rows;
    return row / t->dims[1] * r->n_rows + r->first + row % t->dims[1] * r->step;
}

/* There, a byte has two neighbours; here, two that are half a block apart. */
static void copy_mxfp4_row(const exo_tensor *t, uint64_t row, uint8_t *out) {
    uint64_t n_blocks = t->dims[0] / BLOCK_ELEMS, at = file_row(t, row) * n_blocks;
    for (uint64_t b = 0; b < n_blocks; b++, out += OWN_BLOCK) {
        const uint8_t *from = t->rows->data + (at + b) * FILE_BLOCK;
        out[0] = t->rows->scales[at + b];
        for (int k = 0; k < FILE_BLOCK / 2; k++) {
            uint8_t low = from[k], high = from[k + FILE_BLOCK / 2];
            out[1 + 2 * k] = (uint8_t)((low & 15) | (high & 15) << 4);
            out[2 + 2 * k] = (uint8_t)(low >> 4 | (high & 0xF0));
        }
    }
}

/* n rows of one matrix: each row of the file has one element of every one of them. */
static void copy_turned(const exo_tensor *t, uint64_t row, uint64_t n, uint8_t *out) {
    const exo_tensor_rows *r = t->rows;
    size_t each = exo_dtype_get(t->type)->block_bytes;
    const uint8_t *matrix = r->data + row / t->dims[1] * t->dims[0] * r->n_rows * each;
    uint64_t column = r->first + row % t->dims[1] * r->step;
    for (uint64_t k = 0; k < t->dims[0]; k++) {
        const uint8_t *from = matrix + (k * r->n_rows + column) * each;
        uint8_t *to = out + k * each;
        for (uint64_t i = 0; i < n; i++, from += r->step * each, to += row_bytes(t)) {
            memcpy(to, from, each);
        }
    }
}

void exo_tensor_copy_rows(const exo_tensor *t, uint64_t first, uint64_t n, uint8_t *out) {
    const exo_tensor_rows *r = t->rows;
    size_t each = row_bytes(t);
    if (r == NULL) {
        memcpy(out, t->data + first * each, n * each);
        return;
    }
    for (uint64_t done = 0, step = 1; done < n; done += step) {
        uint64_t row = first + done;
        uint8_t *to = out + done * each;
        if (r->kind == EXO_ROWS_PARTS) copy_part_row(t, row, to);
        if (r->kind == EXO_ROWS_MXFP4) copy_mxfp4_row(t, row, to);
        if (r->kind != EXO_ROWS_TURNED) continue;
        uint64_t left = t->dims[1] - row % t->dims[1]; /* of this matrix */
        step = n - done < left ? n - done : left;
        copy_turned(t, row, step, to);
    }
}

bool exo_tensor_piece(const exo_tensor *t, uint64_t i, const uint8_t **data, uint64_t *bytes) {
    const exo_tensor_rows *r = t->rows;
    uint64_t n = r != NULL && r->kind == EXO_ROWS_PARTS ? r->n_parts : 1;
    *data = r == NULL ? t->data : r->data;
    *bytes = t->bytes / n;
    if (r == NULL) return i < 1;
    if (r->kind == EXO_ROWS_PARTS) {
        if (i < n) *data = r->parts[i];
        return i < n;
    }
    uint64_t elems = t->dims[2] * r->n_rows * t->dims[0];
    if (r->kind == EXO_ROWS_TURNED) {
        *bytes = elems * exo_dtype_get(t->type)->block_bytes;
        return i < 1;
    }
    *bytes = elems / BLOCK_ELEMS * (i == 0 ? FILE_BLOCK : 1);
    if (i == 1) *data = r->scales;
    return i < 2;
}
