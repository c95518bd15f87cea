/* table.h - the cluster in tables, for people: what `exo nodes` and `exo top` show.
 *
 * Names and reasons come from other machines: what could move a cursor, colour a screen or turn
 * text around is shown as '?'.  A figure that nobody knows is "-".
 * Thread: main. */
#ifndef EXO_CLI_TABLE_H
#define EXO_CLI_TABLE_H

#include "base/buf.h"

#include <jansson.h>

#define EXO_TABLE_COLUMNS 10
#define EXO_CELL_BYTES    128

typedef struct {
    char cells[EXO_TABLE_COLUMNS][EXO_CELL_BYTES];
} exo_table_row;

/* All-zero memory is an empty table. */
typedef struct {
    exo_table_row *rows; /* (n) the first has the columns' names */
    size_t n, cap;
    int n_columns;
    const char *drop; /* which columns go first where there is no room: digits */
} exo_table;
void exo_table_finish(exo_table *t);

/* Of GET /state; EXO_ENOMEM. */
exo_status exo_table_of_nodes(const json_t *state, exo_table *out, exo_error *err);
exo_status exo_table_of_links(const json_t *state, exo_table *out, exo_error *err);
exo_status exo_table_of_instances(const json_t *state, exo_table *out, exo_error *err);

/* Lines for a terminal of so many columns (0 = as wide as it gets); a failure is in out. */
void exo_table_print(const exo_table *t, int n_columns, exo_buf *out);

/* Text of another machine, cleaned; at most cap - 1 bytes, whole characters. */
void exo_clean_text(const char *text, char *out, size_t cap);
/* Appends at most so many columns of a line. */
void exo_put_columns(exo_buf *out, const char *text, int n_columns);
int exo_columns_of(const char *text);

#endif
