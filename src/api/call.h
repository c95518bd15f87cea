/* call.h - one HTTP request and its reply: at once, later, or as a stream.
 *
 * A call is shared by the HTTP side (until libmicrohttpd is done with the request) and, while an
 * answer is being computed, by the node (until its last event); whoever lets go last frees it.
 * Replies may come from any thread.
 * Thread: made and read by HTTP threads; the functions marked ANY from everywhere. */
#ifndef EXO_API_CALL_H
#define EXO_API_CALL_H

#include "api/http.h"
#include "base/buf.h"

#include <microhttpd.h>

#define EXO_KEEPALIVE_MS    5000u /* a comment on streams that are silent for so long */
#define EXO_STREAM_AFTER_MS 1000u /* a stream begins by then, even while it waits in a queue */

typedef struct exo_call exo_call;
typedef struct exo_calls exo_calls; /* all calls that wait, and the thread that watches them */

exo_status exo_calls_create(exo_node *node, exo_calls **out, exo_error *err);
/* Gives replies that are complete half a second to be read, then stops the watcher and resumes what
 * waits, so that the server can stop. */
void exo_calls_shut(exo_calls *c);
/* Freed once the node has let go of the last call too.  NULL is allowed. */
void exo_calls_destroy(exo_calls *c);
exo_node *exo_calls_node(exo_calls *c);

/* ---- HTTP side ---- */

exo_call *exo_call_create(exo_calls *all, struct MHD_Connection *connection);
/* Collects the body; false beyond max_bytes or without memory. */
bool exo_call_add_body(exo_call *c, const char *bytes, size_t n, size_t max_bytes);
const exo_buf *exo_call_body(const exo_call *c);
exo_calls *exo_call_all(exo_call *c);
/* A parameter behind the path's '?', or a header; NULL without.  Valid during the request. */
const char *exo_call_query(const exo_call *c, const char *name);
const char *exo_call_header(const exo_call *c, const char *name);
/* The client takes server-sent events: its Accept header says so. */
bool exo_call_wants_events(const exo_call *c);
/* Queues the reply if there is one, else suspends the connection until there is. */
enum MHD_Result exo_call_answer(exo_call *c);
/* libmicrohttpd is done with the request; an answer under way is cancelled. */
void exo_call_completed(exo_call *c);

/* ---- replies ---- */

/* ANY.  The whole reply; takes json. */
void exo_call_reply_json(exo_call *c, unsigned http_status, json_t *json_take);
/* ANY.  The whole reply, of another type (a literal). */
void exo_call_reply_text(exo_call *c, const char *content_type, const exo_buf *text);
/* ANY.  405: the path takes other methods ("GET, DELETE"). */
void exo_call_reply_method(exo_call *c, const char *allowed, const char *message);
/* ANY.  {"error": {...}} in OpenAI's shape.  param and code may be NULL. */
void exo_call_reply_error(exo_call *c, exo_status status, const char *message, const char *param,
                          const char *code);
unsigned exo_http_status(exo_status status);
json_t *exo_error_json(exo_status status, const char *message, const char *param, const char *code);

/* ANY.  The reply will be a server-sent event stream; it begins with the first event, or after
 * EXO_STREAM_AFTER_MS. */
void exo_call_will_stream(exo_call *c);
/* ANY.  Adds "data: <json>\n\n"; takes json. */
void exo_call_send_json(exo_call *c, json_t *json_take);
/* ANY.  Adds text as it is. */
void exo_call_send_text(exo_call *c, const char *text);
/* ANY.  Bytes of a stream that the client has not taken yet. */
size_t exo_call_unread_bytes(exo_call *c);
/* ANY.  No more will come. */
void exo_call_end_stream(exo_call *c);
/* ANY.  The answer ends with an error: a whole reply, or the last event of a stream that began. */
void exo_call_fail(exo_call *c, exo_status status, const char *message);

/* ---- the node's hold on a call ---- */

/* Before submitting: the call outlives the HTTP request until exo_call_release. */
void exo_call_hold(exo_call *c);
/* After submitting: what to cancel when the client goes away. */
void exo_call_set_handle(exo_call *c, uint64_t handle);
void exo_call_release(exo_call *c); /* ANY */

#endif
