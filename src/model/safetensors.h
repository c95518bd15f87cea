/* safetensors.h - the header of a safetensors file: names, types, shapes and places, all checked.
 *
 * Layout: u64 n, n bytes of JSON {"name": {"dtype", "shape", "data_offsets": [begin, end]}, ...,
 * "__metadata__": {...}}, then the data.  The format's own rules are enforced: the tensors cover
 * the data without gaps and overlaps, sizes follow from shapes.
 * Input is hostile.  Thread: ANY once parsed. */
#ifndef EXO_MODEL_SAFETENSORS_H
#define EXO_MODEL_SAFETENSORS_H

#include <exo/base.h>
#include <jansson.h>

#define EXO_SAFETENSORS_MAX_HEADER (32u << 20)
#define EXO_SAFETENSORS_MAX_DIMS   8

typedef struct {
    const char *name;
    const char *dtype; /* "BF16" */
    uint32_t elem_bits;
    uint32_t n_dims;
    uint64_t shape[EXO_SAFETENSORS_MAX_DIMS]; /* the last one runs fastest */
    const uint8_t *data;
    uint64_t bytes;
} exo_safetensor;

typedef struct {
    exo_safetensor *tensors; /* owned; in the order of their data */
    size_t n;
    json_t *header; /* owned; names point into it */
} exo_safetensors;

/* bytes stay valid and unchanged until finish.  On failure *out is zeroed. */
exo_status exo_safetensors_parse(const void *bytes, size_t n, exo_safetensors *out, exo_error *err);
void exo_safetensors_finish(exo_safetensors *s); /* all-zero memory is allowed */

#endif
