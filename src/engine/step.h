/* step.h - one step of an instance: ragged rows plus the block-table entries they need.
 *
 * The coordinator authors steps; every stage of the pipeline runs the same step on its layers.
 * Page ids travel in the step, so that all stages hold the same block table.  A step received
 * twice does the same thing twice: entries and rows are absolute, nothing is relative to before.
 *
 * Wire form (little-endian), used between stages:
 *   offset  bytes  field
 *   0       2      n_rows
 *   2       2      n_pages
 *   4       4      reserved, 0
 *   8       8 n    page entries: seq u16, index u16, page u32
 *   ...     12 n   rows: seq u16, flags u16, pos u32, token i32
 * Thread: ANY, one at a time per step. */
#ifndef EXO_ENGINE_STEP_H
#define EXO_ENGINE_STEP_H

#include "compute/backend.h"

#define EXO_MAX_SEQS       256
#define EXO_MAX_STEP_ROWS  2048
#define EXO_MAX_STEP_PAGES 16384

typedef struct {
    uint32_t seq;   /* sequence slot */
    uint32_t index; /* positions [32 index, 32 index + 32) of that sequence ... */
    uint32_t page;  /* ... live in this page of every stage's pool */
} exo_page_entry;

typedef struct {
    uint64_t number; /* counts steps of one instance epoch; travels in the frame's seq */
    uint32_t n_rows, cap_rows;
    uint32_t n_pages, cap_pages;
    exo_row *rows;         /* (n_rows) rows of one sequence in ascending position */
    exo_page_entry *pages; /* (n_pages) */
} exo_step;

/* Room for the given counts; all later use allocates nothing. */
exo_status exo_step_init(exo_step *s, uint32_t cap_rows, uint32_t cap_pages, exo_error *err);
void exo_step_finish(exo_step *s);
void exo_step_clear(exo_step *s);

size_t exo_step_wire_bytes(const exo_step *s);
void exo_step_encode(const exo_step *s, uint8_t *out); /* exo_step_wire_bytes(s) bytes */
/* Checks counts against the capacities and lengths against n; number is left alone. */
exo_status exo_step_decode(exo_step *s, const uint8_t *bytes, size_t n, exo_error *err);

uint32_t exo_step_n_logits(const exo_step *s); /* rows with EXO_ROW_LOGITS */

#endif
