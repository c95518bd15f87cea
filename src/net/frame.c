/* frame.c - writing and reading the frame of frame.h.
 *
 * Knows bytes, lengths and the hash; what a type means is the link's and the node's business.
 * The fixed part can be made without the rest (exo_frame_head), so that a lane sends megabytes of
 * activations from where they lie, without a second copy of them. */
#include "net/frame.h"

#include "base/hash.h"
#include "base/le.h"

#include <string.h>

/* The head up to the hash is hashed first, so a flipped length is noticed as well. */
#define HASHED_HEAD_BYTES  32
#define HASHED_SHORT_BYTES 8

static uint64_t frame_hash(const uint8_t *head, size_t n_head, const exo_frame *f) {
    uint64_t h = exo_hash64(head, n_head, 0);
    if (f->header_bytes > 0) h = exo_hash64(f->header, f->header_bytes, h);
    if (f->body_bytes > 0) h = exo_hash64(f->body, f->body_bytes, h);
    return h;
}

exo_status exo_frame_head(const exo_frame *f, uint8_t out[EXO_FRAME_BYTES], exo_error *err) {
    if (f->header_bytes > EXO_FRAME_MAX_HEADER || f->body_bytes > EXO_FRAME_MAX_BODY) {
        return exo_error_set(err, EXO_EINVAL,
                             "a frame of type %u with %u header and %u body bytes is beyond the "
                             "limits of %u and %u",
                             f->type, f->header_bytes, f->body_bytes, EXO_FRAME_MAX_HEADER,
                             EXO_FRAME_MAX_BODY);
    }
    exo_put_u32(out, EXO_FRAME_MAGIC);
    exo_put_u16(out + 4, EXO_FRAME_VERSION);
    exo_put_u16(out + 6, f->type);
    exo_put_u32(out + 8, f->flags);
    exo_put_u32(out + 12, f->epoch);
    exo_put_u64(out + 16, f->seq);
    exo_put_u32(out + 24, f->header_bytes);
    exo_put_u32(out + 28, f->body_bytes);
    exo_put_u64(out + 32, frame_hash(out, HASHED_HEAD_BYTES, f));
    return EXO_OK;
}

exo_status exo_frame_write(const exo_frame *f, exo_buf *out, exo_error *err) {
    uint8_t head[EXO_FRAME_BYTES];
    exo_status st = exo_frame_head(f, head, err);
    if (st != EXO_OK) return st;
    size_t payload = (size_t)f->header_bytes + f->body_bytes;
    if (!exo_buf_reserve(out, EXO_FRAME_BYTES + payload)) {
        return exo_error_set(err, EXO_ENOMEM, "no memory for a frame of %zu bytes",
                             EXO_FRAME_BYTES + payload);
    }
    exo_buf_append(out, head, sizeof head);
    exo_buf_append(out, f->header, f->header_bytes);
    exo_buf_append(out, f->body, f->body_bytes);
    return EXO_OK;
}

exo_status exo_frame_write_small(const exo_frame *f, exo_buf *out, exo_error *err) {
    bool fits = f->type <= UINT8_MAX && f->flags <= UINT8_MAX && f->seq <= UINT32_MAX &&
                f->epoch == 0 && f->header_bytes == 0 && f->body_bytes <= UINT8_MAX;
    if (!fits) return exo_frame_write(f, out, err);
    uint8_t head[EXO_FRAME_SHORT] = {EXO_FRAME_SHORT_MARK, (uint8_t)f->type, (uint8_t)f->flags,
                                     (uint8_t)f->body_bytes};
    exo_put_u32(head + 4, (uint32_t)f->seq);
    exo_put_u32(head + 8, (uint32_t)frame_hash(head, HASHED_SHORT_BYTES, f));
    if (!exo_buf_reserve(out, EXO_FRAME_SHORT + f->body_bytes)) {
        return exo_error_set(err, EXO_ENOMEM, "no memory for a frame of %u bytes",
                             EXO_FRAME_SHORT + f->body_bytes);
    }
    exo_buf_append(out, head, sizeof head);
    exo_buf_append(out, f->body, f->body_bytes);
    return EXO_OK;
}

exo_status exo_frame_write_json(uint16_t type, uint64_t seq, const json_t *header, exo_buf *out,
                                exo_error *err) {
    size_t n = json_dumpb(header, NULL, 0, JSON_COMPACT);
    if (n == 0) return exo_error_set(err, EXO_EINVAL, "a header that is no JSON object");
    if (n > EXO_FRAME_MAX_HEADER) {
        return exo_error_set(err, EXO_EINVAL,
                             "a JSON header of %zu bytes is beyond the limit of %u", n,
                             EXO_FRAME_MAX_HEADER);
    }
    exo_buf text = {0};
    exo_status st;
    if (!exo_buf_reserve(&text, n) || json_dumpb(header, text.data, n, JSON_COMPACT) != n) {
        st = exo_error_set(err, EXO_ENOMEM, "no memory for a JSON header of %zu bytes", n);
    } else {
        exo_frame f = {.type = type,
                       .flags = EXO_FRAME_JSON,
                       .seq = seq,
                       .header = (const uint8_t *)text.data,
                       .header_bytes = (uint32_t)n};
        st = exo_frame_write(&f, out, err);
    }
    exo_buf_finish(&text);
    return st;
}

/* Says no as early as the bytes allow: a stranger's first four are enough. */
static exo_status check_head(const uint8_t *bytes, size_t n, exo_error *err) {
    uint8_t magic[4];
    exo_put_u32(magic, EXO_FRAME_MAGIC);
    if (memcmp(bytes, magic, n < 4 ? n : 4) != 0) {
        return exo_error_set(err, EXO_EFORMAT, "no exo frame: it does not begin with \"EXO1\"");
    }
    if (n >= 6 && exo_get_u16(bytes + 4) != EXO_FRAME_VERSION) {
        return exo_error_set(err, EXO_EFORMAT, "a frame of format %u, this node knows format %u",
                             exo_get_u16(bytes + 4), EXO_FRAME_VERSION);
    }
    if (n >= EXO_FRAME_BYTES && (exo_get_u32(bytes + 24) > EXO_FRAME_MAX_HEADER ||
                                 exo_get_u32(bytes + 28) > EXO_FRAME_MAX_BODY)) {
        return exo_error_set(err, EXO_EFORMAT,
                             "a frame that claims %u header and %u body bytes; the limits are %u "
                             "and %u",
                             exo_get_u32(bytes + 24), exo_get_u32(bytes + 28), EXO_FRAME_MAX_HEADER,
                             EXO_FRAME_MAX_BODY);
    }
    return EXO_OK;
}

static exo_status damaged(const exo_frame *f, exo_error *err) {
    return exo_error_set(err, EXO_EFORMAT, "a damaged frame: type %u, seq %llu, wrong hash",
                         f->type, (unsigned long long)f->seq);
}

static exo_status parse_short(const uint8_t *bytes, size_t n, exo_frame *out, size_t *used,
                              exo_error *err) {
    if (n < EXO_FRAME_SHORT || n < EXO_FRAME_SHORT + (size_t)bytes[3]) return EXO_OK;
    exo_frame f = {
        .type = bytes[1], .flags = bytes[2], .body_bytes = bytes[3], .seq = exo_get_u32(bytes + 4)};
    f.header = f.body = bytes + EXO_FRAME_SHORT;
    if ((uint32_t)frame_hash(bytes, HASHED_SHORT_BYTES, &f) != exo_get_u32(bytes + 8)) {
        return damaged(&f, err);
    }
    *out = f;
    *used = EXO_FRAME_SHORT + f.body_bytes;
    return EXO_OK;
}

exo_status exo_frame_parse(const uint8_t *bytes, size_t n, exo_frame *out, size_t *used,
                           exo_error *err) {
    *used = 0;
    *out = (exo_frame){0};
    if (n == 0) return EXO_OK;
    if (bytes[0] == EXO_FRAME_SHORT_MARK) return parse_short(bytes, n, out, used, err);
    exo_status st = check_head(bytes, n, err);
    if (st != EXO_OK || n < EXO_FRAME_BYTES) return st;

    exo_frame f = {.type = exo_get_u16(bytes + 6),
                   .flags = exo_get_u32(bytes + 8),
                   .epoch = exo_get_u32(bytes + 12),
                   .seq = exo_get_u64(bytes + 16),
                   .header_bytes = exo_get_u32(bytes + 24),
                   .body_bytes = exo_get_u32(bytes + 28)};
    size_t whole = EXO_FRAME_BYTES + (size_t)f.header_bytes + f.body_bytes;
    if (n < whole) return EXO_OK;
    f.header = bytes + EXO_FRAME_BYTES;
    f.body = f.header + f.header_bytes;
    if (frame_hash(bytes, HASHED_HEAD_BYTES, &f) != exo_get_u64(bytes + 32)) {
        return damaged(&f, err);
    }
    *out = f;
    *used = whole;
    return EXO_OK;
}

/* The deepest nesting of brackets outside strings; jansson's own recursion limit is 2048. */
static unsigned json_depth(const uint8_t *text, size_t n) {
    unsigned depth = 0, deepest = 0;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        uint8_t c = text[i];
        if (in_string) {
            if (c == '\\') i++;
            if (c == '"') in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > deepest) deepest = depth;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return deepest;
}

exo_status exo_frame_json(const exo_frame *f, json_t **out, exo_error *err) {
    *out = NULL;
    if ((f->flags & EXO_FRAME_JSON) == 0) {
        return exo_error_set(err, EXO_EFORMAT, "a frame of type %u without its JSON header",
                             f->type);
    }
    if (json_depth(f->header, f->header_bytes) > EXO_FRAME_MAX_DEPTH) {
        return exo_error_set(err, EXO_EFORMAT, "a JSON header nested deeper than %d",
                             EXO_FRAME_MAX_DEPTH);
    }
    json_error_t why;
    json_t *value = json_loadb((const char *)f->header, f->header_bytes,
                               JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    if (value == NULL && json_error_code(&why) == json_error_out_of_memory) {
        return exo_error_set(err, EXO_ENOMEM, "no memory for a JSON header of %u bytes",
                             f->header_bytes);
    }
    if (value == NULL) {
        return exo_error_set(err, EXO_EFORMAT, "a broken JSON header in a frame of type %u: %s",
                             f->type, why.text);
    }
    if (!json_is_object(value)) {
        json_decref(value);
        return exo_error_set(err, EXO_EFORMAT, "the JSON header of a frame of type %u is no object",
                             f->type);
    }
    *out = value;
    return EXO_OK;
}
