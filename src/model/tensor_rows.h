/* tensor_rows.h - the rows of a tensor that do not lie one behind the other in a file.
 *
 * Folders of safetensors hold some matrices in another order than GGUF files: expert by expert,
 * queries between keys and values, gates between ups, turned, or with the scales of MXFP4 in
 * another tensor.  Such a tensor stays in its file; its rows are put together when somebody asks
 * for them, a few at a time.  Thread: ANY. */
#ifndef EXO_MODEL_TENSOR_ROWS_H
#define EXO_MODEL_TENSOR_ROWS_H

#include "model/gguf.h"

typedef enum {
    EXO_ROWS_PARTS,  /* (n_parts) pieces of equally many rows, in order */
    EXO_ROWS_MXFP4,  /* (dims[2], n_rows, dims[0] / 32): blocks of 16 bytes; scales of one */
    EXO_ROWS_TURNED, /* (dims[2], dims[0], n_rows): what is a row here is a column there */
} exo_rows_kind;

struct exo_tensor_rows {
    exo_rows_kind kind;
    const uint8_t *const *parts;
    uint64_t n_parts;
    const uint8_t *data, *scales;
    uint64_t n_rows;      /* of each matrix in the file */
    uint64_t first, step; /* row r of a matrix is the file's first + r * step */
};

/* Writes rows [first, first + n) of all dims[1] * dims[2] * dims[3] to out, each of the bytes that
 * its type and dims[0] ask for. */
void exo_tensor_copy_rows(const exo_tensor *t, uint64_t first, uint64_t n, uint8_t *out);

/* The i-th piece of memory that the tensor is in; false behind the last. */
bool exo_tensor_piece(const exo_tensor *t, uint64_t i, const uint8_t **data, uint64_t *bytes);

#endif
