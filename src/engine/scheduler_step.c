/* scheduler_step.c - what goes into the next step.
 *
 * In this order: one row for every decoding sequence, oldest first; prompt rows of running
 * sequences, oldest first, up to the chunk; then waiting requests in order of arrival while
 * slots, pages and the chunk allow.
 *
 * A sequence holds the pages of all its known tokens from admission on, so only a decoding row
 * may find the pool empty.  Then the youngest running sequence is put back.  Since decoding rows
 * are placed oldest first, the one put back never has rows in the step being built; since it
 * comes back only when all its pages fit, two sequences cannot take turns in evicting each other;
 * and since the oldest is never put back for another, it ends. */
#include "engine/scheduler_impl.h"

#include "base/assert.h"

typedef struct {
    exo_sched *s;
    exo_step *step;
    exo_step_due *due;
    uint32_t chunk_left;
} builder;

static uint32_t min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* ---- rows and pages ---- */

static void put_page(const builder *b, const exo_seq *q, uint32_t index) {
    EXO_ASSERT(b->step->n_pages < b->step->cap_pages);
    b->step->pages[b->step->n_pages++] =
        (exo_page_entry){.seq = q->slot, .index = index, .page = q->pages[index]};
}

/* Hands out the next n positions; the row of the last known token draws the next one. */
static void put_rows(const builder *b, exo_seq *q, uint32_t n) {
    EXO_ASSERT(q->n_rows + n <= q->n_tokens && exo_pages_for(q->n_rows + n) <= q->n_pages);
    EXO_ASSERT(b->step->n_rows + n <= b->step->cap_rows);
    for (; n > 0; n--, q->n_rows++) {
        bool prompt = b->s->desc.has_classes && q->n_rows < q->n_prompt;
        b->step->rows[b->step->n_rows++] = (exo_row){.seq = q->slot,
                                                     .pos = q->n_rows,
                                                     .token = q->tokens[q->n_rows],
                                                     .flags = prompt ? EXO_ROW_PROMPT : 0u};
    }
    if (q->n_rows < q->n_tokens) return;
    b->step->rows[b->step->n_rows - 1].flags |= EXO_ROW_LOGITS;
    q->is_drawing = true;
    b->due->due[b->due->n_due++] =
        (exo_draw_due){.seq = q, .id = q->id, .slot = q->slot, .pos = q->n_tokens};
}

static uint32_t rows_left(const builder *b) {
    return min_u32(b->s->desc.max_rows, b->step->cap_rows) - b->step->n_rows;
}

/* ---- decoding ---- */

static bool wants_rows(const exo_seq *q) { return !q->is_full && q->n_rows < q->n_tokens; }

static bool is_decoding(const exo_seq *q) { return wants_rows(q) && q->n_tokens - q->n_rows == 1; }

static void put_back(exo_sched *s, exo_seq *q) {
    exo_sched_vacate(s, q);
    exo_seq_list_insert(&s->waiting, q);
    s->preemptions++;
}

/* Takes the page of the next position, if need be from the youngest.  False: q itself was it. */
static bool take_page(const builder *b, exo_seq *q) {
    exo_sched *s = b->s;
    uint32_t page = exo_pages_take(s->pages);
    while (page == EXO_NO_PAGE) {
        exo_seq *victim = s->running.youngest;
        put_back(s, victim);
        if (victim == q) return false;
        page = exo_pages_take(s->pages);
    }
    q->pages[q->n_pages++] = page;
    put_page(b, q, q->n_pages - 1);
    return true;
}

static void put_decoding_rows(const builder *b) {
    exo_seq *q = b->s->running.oldest;
    while (q != NULL && rows_left(b) > 0) {
        bool has_place = true;
        if (is_decoding(q)) {
            if (exo_pages_for(q->n_rows + 1) > q->n_pages) has_place = take_page(b, q);
            if (has_place) put_rows(b, q, 1);
        }
        if (!has_place) return; /* q was the youngest and waits now */
        q = q->younger;
    }
}

/* ---- prompts ---- */

static void put_chunk(builder *b, exo_seq *q) {
    uint32_t n = min_u32(q->n_tokens - q->n_rows, min_u32(b->chunk_left, rows_left(b)));
    put_rows(b, q, n);
    b->chunk_left -= n;
}

static void put_prompt_rows(builder *b) {
    for (exo_seq *q = b->s->running.oldest; q != NULL; q = q->younger) {
        if (b->chunk_left == 0 || rows_left(b) == 0) return;
        if (wants_rows(q)) put_chunk(b, q);
    }
}

/* ---- admission ---- */

/* Finds the known pages of the sequence's beginning without holding them: how many, how many of
 * them nobody holds, and their prefix.  The last known token is always computed, for its logits. */
static uint32_t find_prefix(const exo_sched *s, exo_seq *q, uint32_t *n_cached) {
    uint32_t limit = (q->n_tokens - 1) / EXO_KV_PAGE_TOKENS, n = 0;
    *n_cached = 0;
    q->prefix = (exo_prefix){0};
    for (; n < limit; n++) {
        uint32_t page = exo_pages_find(s->pages, &q->prefix, exo_sched_content(s, q, n));
        if (page == EXO_NO_PAGE) break;
        q->pages[n] = page;
        if (!exo_pages_is_held(s->pages, page)) ++*n_cached;
    }
    return n;
}

static uint32_t free_slot(const exo_sched *s) {
    uint32_t slot = 0;
    while (slot < s->desc.max_seqs && s->slot_taken[slot]) slot++;
    return slot;
}

/* Moves the longest waiting request to a slot if it and all its pages fit now. */
static exo_seq *admit(const builder *b) {
    exo_sched *s = b->s;
    exo_seq *q = s->waiting.oldest;
    while (q != NULL && q->is_full) q = q->younger; /* put back before its last token came */
    uint32_t slot = free_slot(s), n_cached;
    if (q == NULL || q->is_drawing || slot == s->desc.max_seqs) return NULL;
    uint32_t n_pages = exo_pages_for(q->n_tokens);
    if (b->step->n_pages + n_pages > b->step->cap_pages) return NULL;
    uint32_t n_found = find_prefix(s, q, &n_cached);
    exo_pages_counts pages = exo_pages_count(s->pages);
    if (n_pages - n_found > pages.n_free + pages.n_cached - n_cached) return NULL;

    exo_seq_list_remove(&s->waiting, q);
    exo_seq_list_insert(&s->running, q);
    q->is_running = true;
    q->slot = slot;
    s->slot_taken[slot] = true;
    for (uint32_t i = 0; i < n_found; i++) exo_pages_hold(s->pages, q->pages[i]);
    for (uint32_t i = n_found; i < n_pages; i++) q->pages[i] = exo_pages_take(s->pages);
    q->n_pages = n_pages;
    q->n_whole = n_found;
    q->n_rows = q->n_reused = n_found * EXO_KV_PAGE_TOKENS;
    s->prefix_hit_tokens += q->n_reused;
    for (uint32_t i = 0; i < n_pages; i++) put_page(b, q, i);
    return q;
}

bool exo_sched_next(exo_sched *s, exo_step *step, exo_admission *admitted, uint32_t *n_admitted) {
    bool has_room =
        step->cap_rows >= s->desc.max_rows && step->cap_pages >= exo_sched_step_pages(s);
    EXO_ASSERT(has_room);
    exo_step_clear(step);
    *n_admitted = 0;
    if (!has_room || s->n_in_flight == s->desc.max_in_flight) return false;
    uint32_t end = (s->first_in_flight + s->n_in_flight) % s->desc.max_in_flight;
    builder b = {
        .s = s, .step = step, .due = &s->in_flight[end], .chunk_left = s->desc.chunk_tokens};
    for (exo_seq *q = s->running.oldest; q != NULL; q = q->younger) exo_sched_publish(s, q);

    put_decoding_rows(&b);
    put_prompt_rows(&b);
    while (b.chunk_left > 0 && rows_left(&b) > 0) {
        exo_seq *q = admit(&b);
        if (q == NULL) break;
        admitted[(*n_admitted)++] =
            (exo_admission){.id = q->id, .seq = q->slot, .n_history = q->n_tokens - q->n_prompt};
        put_chunk(&b, q);
    }
    if (step->n_rows == 0) return false;
    b.due->number = step->number = ++s->last_number;
    s->n_in_flight++;
    return true;
}
