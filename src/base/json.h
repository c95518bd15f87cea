/* json.h - JSON texts of others, whose integers may be of any size.
 *
 * jansson reads integers into 63 bits and refuses a whole text for one that is larger.  JSON has
 * no such bound, and real files go beyond it: Hugging Face's "model_max_length": 1e30 written out,
 * a tool schema's "maximum": 18446744073709551615.  Here such a number is the nearest double; those
 * that fit stay as they are. */
#ifndef EXO_BASE_JSON_H
#define EXO_BASE_JSON_H

#include <jansson.h>
#include <math.h>
#include <stddef.h>

/* json_loadb() but for that: the caller owns the result; NULL: why says what and in which line.
 * Flags are jansson's.  Thread: ANY. */
json_t *exo_json_load(const char *text, size_t n, size_t flags, json_error_t *why);

/* A figure with the digits that were measured: to the 1000th for per_unit 1000.  NAN stays. */
static inline double exo_json_rounded(double v, double per_unit) {
    return round(v * per_unit) / per_unit;
}

#endif
