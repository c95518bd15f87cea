/* quantize.h - f32 rows to the weight formats of files.
 *
 * Blocks are as compute/blocks.h decodes them.  Scales are searched for the least sum of squared
 * errors of each block; rounding of the scales themselves is part of what is measured.  The same
 * input gives the same bytes on every machine.
 * Thread: ANY; rows are independent of each other. */
#ifndef EXO_COMPUTE_QUANTIZE_H
#define EXO_COMPUTE_QUANTIZE_H

#include "compute/dtype.h"

/* F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS MXFP4 */
bool exo_quantize_supported(exo_dtype type);

/* src (n_rows, n_cols) becomes n_rows * exo_dtype_row_bytes(type, n_cols) bytes at dst.
 * EXO_EUNSUPPORTED for other types; EXO_EINVAL for rows that are no whole blocks, and, with row and
 * column named, for elements that are not finite or larger than the format can hold: dst is then
 * undefined. */
exo_status exo_quantize_rows(exo_dtype type, const float *src, size_t n_rows, size_t n_cols,
                             void *dst, exo_error *err);

#endif
