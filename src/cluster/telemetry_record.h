/* telemetry_record.h - a record as a table of its members, read from JSON and written to it.
 *
 * One table says names, kinds and limits once; reading, writing and every error message follow from
 * it.  Thread: ANY. */
#ifndef EXO_CLUSTER_TELEMETRY_RECORD_H
#define EXO_CLUSTER_TELEMETRY_RECORD_H

#include <exo/base.h>

#include <jansson.h>

typedef enum {
    EXO_FIELD_TEXT,  /* char[size]; longer text is an error */
    EXO_FIELD_BYTES, /* uint64_t; null = EXO_BYTES_UNKNOWN where it may be unknown */
    EXO_FIELD_PORT,  /* uint16_t */
    EXO_FIELD_REAL,  /* double, finite; null = NAN where it may be unknown */
    EXO_FIELD_BOOL,
    EXO_FIELD_DEVICE_TYPE,
    EXO_FIELD_RECORD, /* another record, with its own table */
} exo_field_kind;

enum {
    EXO_FIELD_MAY_BE_UNKNOWN = 1u << 0, /* null */
    EXO_FIELD_MAY_BE_ABSENT = 1u << 1,  /* keeps the default, as all-zero memory has it */
    EXO_FIELD_DEFAULT_TRUE = 1u << 2,   /* BOOL */
};

typedef struct exo_record_table exo_record_table;

typedef struct {
    const char *name;
    exo_field_kind kind;
    uint32_t flags;
    size_t offset, size;           /* in the struct; size of TEXT */
    double least, most;            /* REAL: both 0 = any.  BYTES: most */
    const exo_record_table *table; /* RECORD */
    size_t has_offset;             /* RECORD that may be null: a bool in the struct */
} exo_field;

struct exo_record_table {
    const char *name; /* "metrics", for messages */
    const exo_field *fields;
    size_t n_fields, extra_offset;
};

/* Fills *out, zeroed before.  EXO_EFORMAT names record and member. */
exo_status exo_record_read(const exo_record_table *t, const json_t *in, void *out, exo_error *err);
json_t *exo_record_write(const exo_record_table *t, const void *record); /* NULL without memory */
void exo_record_finish(const exo_record_table *t, void *record);

#endif
