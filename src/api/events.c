/* events.c - GET /events: what has changed what all nodes agree on, as a list or as it happens.
 *
 *   ?since=N          events after index N of the log
 *   ?log=HEX          of this log; where the node follows another by now, all that it keeps
 *   ?stream=true, or Accept: text/event-stream: those, then each as it comes
 *
 * A stream's ids are "log:index", so that a browser that comes back goes on where it was.  What a
 * client does not read is kept for it up to a limit; then its stream ends, and says so. */
#define _DEFAULT_SOURCE
#include "api/cluster.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_UNREAD_BYTES (256u << 10)

/* ---- the question ---- */

static bool read_digits(const char *text, int base, uint64_t *out) {
    const char *digits = base == 16 ? "0123456789abcdef" : "0123456789";
    size_t n = strlen(text);
    if (n == 0 || n > (base == 16 ? 16 : 18) || strspn(text, digits) != n) return false;
    *out = strtoull(text, NULL, base);
    return true;
}

/* "log:index", as a stream's ids are; anything else is another server's. */
static void read_last_id(const char *id, exo_node_place_in_log *from) {
    char log[17];
    const char *colon = strchr(id, ':');
    uint64_t log_id, index;
    if (colon == NULL || (size_t)(colon - id) >= sizeof log) return;
    memcpy(log, id, (size_t)(colon - id));
    log[colon - id] = '\0';
    if (!read_digits(log, 16, &log_id) || !read_digits(colon + 1, 10, &index)) return;
    *from = (exo_node_place_in_log){.log_id = log_id, .since = index};
}

/* False after an error reply. */
static bool read_question(exo_call *c, exo_node_place_in_log *from, bool *live) {
    const char *since = exo_call_query(c, "since"), *log = exo_call_query(c, "log");
    const char *wish = exo_call_query(c, "stream"), *last = exo_call_header(c, "Last-Event-ID");
    *from = (exo_node_place_in_log){0};
    *live = exo_call_wants_events(c);
    if (last != NULL) read_last_id(last, from);
    if (since != NULL && !read_digits(since, 10, &from->since)) {
        exo_call_reply_error(c, EXO_EINVAL, "\"since\" must be an index: a whole number", "since",
                             NULL);
        return false;
    }
    if (log != NULL && !read_digits(log, 16, &from->log_id)) {
        exo_call_reply_error(c, EXO_EINVAL, "\"log\" must be a log's id: up to 16 hex digits",
                             "log", NULL);
        return false;
    }
    if (wish == NULL) return true;
    *live = strcmp(wish, "true") == 0 || strcmp(wish, "1") == 0;
    if (*live || strcmp(wish, "false") == 0 || strcmp(wish, "0") == 0) return true;
    exo_call_reply_error(c, EXO_EINVAL, "\"stream\" must be true or false", "stream", NULL);
    return false;
}

/* ---- the stream ---- */

/* Node thread.  An error is an event of its own, so that it is no change to whoever reads them. */
static void end_with(exo_call *c, exo_status status, const char *why) {
    exo_call_send_text(c, "event: error\n");
    exo_call_send_json(c, exo_error_json(status, why, NULL, NULL));
    exo_call_end_stream(c);
}

typedef struct {
    exo_call *call;
    bool cut; /* nothing more is sent to it */
} stream;

static void on_change(void *ud, const exo_node_change *change) {
    stream *s = ud;
    exo_call *c = s->call;
    if (change->event == NULL) {
        if (!s->cut) end_with(c, change->status, change->message);
        exo_call_release(c);
        exo_free(s);
        return;
    }
    if (s->cut) return;
    if (exo_call_unread_bytes(c) > MAX_UNREAD_BYTES) {
        exo_error err;
        exo_error_set(&err, EXO_EBUSY,
                      "events from %" PRIu64 " on are not sent: more than %u KiB wait to be read; "
                      "ask again with since",
                      change->index, MAX_UNREAD_BYTES >> 10);
        s->cut = true;
        end_with(c, EXO_EBUSY, err.message);
        return;
    }
    char head[64];
    snprintf(head, sizeof head, "id: %016" PRIx64 ":%" PRIu64 "\n", change->log_id, change->index);
    exo_call_send_text(c, head);
    exo_call_send_json(c, json_incref((json_t *)change->event));
}

static void follow(exo_call *c, exo_node_place_in_log from) {
    exo_node *n = exo_calls_node(exo_call_all(c));
    exo_error err = {0};
    uint64_t handle;
    stream *s = exo_calloc(1, sizeof *s);
    if (s == NULL) {
        exo_call_reply_error(c, EXO_ENOMEM, "out of memory for a stream", NULL, NULL);
        return;
    }
    s->call = c;
    exo_call_will_stream(c);
    exo_call_send_text(c, ": events\n\n"); /* it begins at once */
    exo_call_hold(c);
    exo_status st = exo_node_follow(n, from, on_change, s, &handle, &err);
    if (st == EXO_OK) {
        exo_call_set_handle(c, handle);
        return;
    }
    exo_call_fail(c, st, err.message);
    exo_call_release(c);
    exo_free(s);
}

void exo_events_get(exo_call *c) {
    exo_node_place_in_log from;
    bool live;
    json_t *list;
    exo_error err = {0};
    if (!read_question(c, &from, &live)) return;
    if (live) {
        follow(c, from);
    } else if (exo_node_events(exo_calls_node(exo_call_all(c)), from, &list, &err) == EXO_OK) {
        exo_call_reply_json(c, MHD_HTTP_OK, list);
    } else {
        exo_call_reply_error(c, err.status, err.message, NULL, NULL);
    }
}
