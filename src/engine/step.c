/* step.c - the step's memory and its wire form.
 *
 * Owns the encoding and nothing else: whether a page, slot or position exists on this stage is
 * the shard's to check.  A step comes from another node, so decoding trusts no count: the length
 * must be exactly what the counts say, and every field must lie in its range, before anything is
 * taken over.  After a failed decode the step is empty. */
#include "engine/step.h"

#include "base/le.h"
#include "base/mem.h"

#define HEADER_BYTES 8
#define PAGE_BYTES   8
#define ROW_BYTES    12
#define KNOWN_FLAGS  (EXO_ROW_LOGITS | EXO_ROW_PROMPT)

exo_status exo_step_init(exo_step *s, uint32_t cap_rows, uint32_t cap_pages, exo_error *err) {
    *s = (exo_step){0};
    if (cap_rows > EXO_MAX_STEP_ROWS || cap_pages > EXO_MAX_STEP_PAGES) {
        return exo_error_set(err, EXO_EINVAL, "a step of %u rows and %u pages: at most %d and %d",
                             cap_rows, cap_pages, EXO_MAX_STEP_ROWS, EXO_MAX_STEP_PAGES);
    }
    s->rows = exo_calloc(cap_rows, sizeof *s->rows);
    s->pages = exo_calloc(cap_pages, sizeof *s->pages);
    if (s->rows == NULL || s->pages == NULL) {
        exo_step_finish(s);
        return exo_error_set(err, EXO_ENOMEM, "no memory for a step of %u rows", cap_rows);
    }
    s->cap_rows = cap_rows;
    s->cap_pages = cap_pages;
    return EXO_OK;
}

void exo_step_finish(exo_step *s) {
    if (s == NULL) return;
    exo_free(s->rows);
    exo_free(s->pages);
    *s = (exo_step){0};
}

void exo_step_clear(exo_step *s) { s->n_rows = s->n_pages = 0; }

static size_t wire_bytes(uint32_t n_rows, uint32_t n_pages) {
    return HEADER_BYTES + (size_t)n_pages * PAGE_BYTES + (size_t)n_rows * ROW_BYTES;
}

size_t exo_step_wire_bytes(const exo_step *s) { return wire_bytes(s->n_rows, s->n_pages); }

void exo_step_encode(const exo_step *s, uint8_t *out) {
    exo_put_u16(out, (uint16_t)s->n_rows);
    exo_put_u16(out + 2, (uint16_t)s->n_pages);
    exo_put_u32(out + 4, 0);
    out += HEADER_BYTES;
    for (uint32_t i = 0; i < s->n_pages; i++, out += PAGE_BYTES) {
        exo_put_u16(out, (uint16_t)s->pages[i].seq);
        exo_put_u16(out + 2, (uint16_t)s->pages[i].index);
        exo_put_u32(out + 4, s->pages[i].page);
    }
    for (uint32_t i = 0; i < s->n_rows; i++, out += ROW_BYTES) {
        exo_put_u16(out, (uint16_t)s->rows[i].seq);
        exo_put_u16(out + 2, (uint16_t)s->rows[i].flags);
        exo_put_u32(out + 4, s->rows[i].pos);
        exo_put_u32(out + 8, (uint32_t)s->rows[i].token);
    }
}

static exo_status decode_pages(exo_step *s, const uint8_t *in, uint32_t n, exo_error *err) {
    for (uint32_t i = 0; i < n; i++, in += PAGE_BYTES) {
        exo_page_entry *e = &s->pages[i];
        e->seq = exo_get_u16(in);
        e->index = exo_get_u16(in + 2);
        e->page = exo_get_u32(in + 4);
        if (e->seq >= EXO_MAX_SEQS) {
            return exo_error_set(err, EXO_EFORMAT, "step: page entry %u has sequence %u", i,
                                 e->seq);
        }
    }
    s->n_pages = n;
    return EXO_OK;
}

static exo_status decode_rows(exo_step *s, const uint8_t *in, uint32_t n, exo_error *err) {
    for (uint32_t i = 0; i < n; i++, in += ROW_BYTES) {
        exo_row *r = &s->rows[i];
        r->seq = exo_get_u16(in);
        r->flags = exo_get_u16(in + 2);
        r->pos = exo_get_u32(in + 4);
        r->token = (int32_t)exo_get_u32(in + 8);
        if (r->seq >= EXO_MAX_SEQS) {
            return exo_error_set(err, EXO_EFORMAT, "step: row %u has sequence %u", i, r->seq);
        }
        if ((r->flags & ~(uint32_t)KNOWN_FLAGS) != 0) {
            return exo_error_set(err, EXO_EFORMAT, "step: row %u has unknown flags 0x%x", i,
                                 r->flags);
        }
    }
    s->n_rows = n;
    return EXO_OK;
}

exo_status exo_step_decode(exo_step *s, const uint8_t *bytes, size_t n, exo_error *err) {
    exo_step_clear(s);
    if (n < HEADER_BYTES) {
        return exo_error_set(err, EXO_EFORMAT, "step: %zu bytes are no step", n);
    }
    uint32_t n_rows = exo_get_u16(bytes), n_pages = exo_get_u16(bytes + 2);
    if (n_rows > s->cap_rows || n_pages > s->cap_pages) {
        return exo_error_set(err, EXO_EFORMAT,
                             "step: %u rows and %u pages, room for %u and %u here", n_rows, n_pages,
                             s->cap_rows, s->cap_pages);
    }
    if (n != wire_bytes(n_rows, n_pages)) {
        return exo_error_set(err, EXO_EFORMAT, "step: %zu bytes, but %u rows and %u pages take %zu",
                             n, n_rows, n_pages, wire_bytes(n_rows, n_pages));
    }
    if (exo_get_u32(bytes + 4) != 0) {
        return exo_error_set(err, EXO_EFORMAT, "step: reserved bytes are not zero");
    }
    const uint8_t *pages = bytes + HEADER_BYTES, *rows = pages + (size_t)n_pages * PAGE_BYTES;
    exo_status st = decode_pages(s, pages, n_pages, err);
    if (st == EXO_OK) st = decode_rows(s, rows, n_rows, err);
    if (st != EXO_OK) exo_step_clear(s);
    return st;
}

uint32_t exo_step_n_logits(const exo_step *s) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_rows; i++) n += (s->rows[i].flags & EXO_ROW_LOGITS) != 0;
    return n;
}
