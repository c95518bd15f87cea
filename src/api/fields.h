/* fields.h - reading the members of a JSON body: typed, ranged, and named when wrong.
 *
 * The first wrong member is remembered; later reads do nothing, so that a handler reads all its
 * members and checks once.  A member that is null counts as absent.
 * Thread: any one at a time. */
#ifndef EXO_API_FIELDS_H
#define EXO_API_FIELDS_H

#include <exo/base.h>

#include <jansson.h>

typedef struct {
    const json_t *object;
    exo_error err;
    char param[64]; /* the member that was wrong */
} exo_fields;

/* Parses a body that must be one JSON object: *out is a new reference. */
exo_status exo_fields_parse(const char *body, size_t n, json_t **out, exo_error *err);

static inline bool exo_fields_ok(const exo_fields *f) { return f->err.status == EXO_OK; }
void exo_fields_fail(exo_fields *f, const char *param, exo_status status, const char *fmt, ...)
    EXO_PRINTF(4, 5);

/* The member, or NULL when absent or null. */
const json_t *exo_fields_get(const exo_fields *f, const char *name);
/* Each leaves *out alone when the member is absent.  True: it was there and right. */
bool exo_fields_bool(exo_fields *f, const char *name, bool *out);
bool exo_fields_float(exo_fields *f, const char *name, double min, double max, float *out);
bool exo_fields_u32(exo_fields *f, const char *name, uint32_t min, uint32_t max, uint32_t *out);
bool exo_fields_i64(exo_fields *f, const char *name, int64_t *out);
bool exo_fields_string(exo_fields *f, const char *name, const char **out);

#endif
