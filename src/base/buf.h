/* buf.h - a growable run of bytes: strings being built, frames being read.
 *
 * Always NUL-terminated behind its last byte.  A failed growth is remembered (check once with
 * exo_buf_ok()); the bytes so far stay valid.  Thread: one at a time. */
#ifndef EXO_BASE_BUF_H
#define EXO_BASE_BUF_H

#include <exo/base.h>

typedef struct {
    char *data; /* NULL while empty */
    size_t n, cap;
    size_t limit_bytes; /* 0 = none; beyond it appends fail */
    bool failed;
} exo_buf;

void exo_buf_finish(exo_buf *b); /* all-zero memory is a valid empty buffer */
void exo_buf_clear(exo_buf *b);  /* keeps the memory and forgets a failure */
bool exo_buf_reserve(exo_buf *b, size_t extra);
void exo_buf_append(exo_buf *b, const void *bytes, size_t n);
void exo_buf_puts(exo_buf *b, const char *s);
void exo_buf_putc(exo_buf *b, char c);
void exo_buf_printf(exo_buf *b, const char *fmt, ...) EXO_PRINTF(2, 3);
void exo_buf_drop_front(exo_buf *b, size_t n); /* n <= b->n */
static inline bool exo_buf_ok(const exo_buf *b) { return !b->failed; }
static inline const char *exo_buf_str(const exo_buf *b) { return b->data != NULL ? b->data : ""; }

#endif
