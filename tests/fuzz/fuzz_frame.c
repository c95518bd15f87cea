/* fuzz_frame.c - what a peer sends, from bytes to a judged hello; with libFuzzer.
 *
 * The input is read as it is, and with the hash of its first frame put right, in the long form and
 * in the short one, since no mutation finds a hash.  Whatever parses must be written back as the
 * same bytes. */
#define _POSIX_C_SOURCE 200809L
#include "base/le.h"
#include "fuzz/target.h"
#include "net/frame.h"
#include "net/hello.h"

#include <string.h>

static void judge_hello(json_t *hello) {
    static const uint8_t exporter[32] = "fuzz";
    exo_peer_info peer;
    exo_error err = {0};
    exo_status st = exo_hello_check(hello, exporter, true, "10.0.0.1", &peer, &err);
    CHECK(st == EXO_OK || (err.message[0] != '\0' && peer.node_id[0] == '\0'));
}

static void read_header(const exo_frame *f) {
    json_t *header;
    exo_error err = {0};
    exo_status st = exo_frame_json(f, &header, &err);
    CHECK((st == EXO_OK) == (header != NULL));
    CHECK(st == EXO_OK || err.message[0] != '\0');
    if (header != NULL && f->type == EXO_MSG_HELLO) judge_hello(header);
    json_decref(header);
}

static void read_stream(const uint8_t *bytes, size_t n) {
    for (size_t used = 1; used > 0; bytes += used, n -= used) {
        exo_frame f;
        exo_error err = {0};
        if (exo_frame_parse(bytes, n, &f, &used, &err) != EXO_OK) {
            CHECK(used == 0 && err.message[0] != '\0');
            return;
        }
        if (used == 0) return;
        CHECK(used <= n);
        exo_buf again = {0};
        bool is_short = bytes[0] == EXO_FRAME_SHORT_MARK;
        CHECK((is_short ? exo_frame_write_small : exo_frame_write)(&f, &again, NULL) == EXO_OK);
        CHECK(again.n == used && memcmp(again.data, bytes, used) == 0);
        exo_buf_finish(&again);
        read_header(&f);
    }
}

/* The same bytes with a first frame that is whole and has the right hash, if its lengths fit. */
static void read_repaired(const uint8_t *bytes, size_t n) {
    if (n < EXO_FRAME_BYTES) return;
    uint32_t n_header = exo_get_u32(bytes + 24);
    size_t room = n - EXO_FRAME_BYTES;
    exo_frame f = {.type = exo_get_u16(bytes + 6),
                   .flags = exo_get_u32(bytes + 8),
                   .epoch = exo_get_u32(bytes + 12),
                   .seq = exo_get_u64(bytes + 16),
                   .header = bytes + EXO_FRAME_BYTES,
                   .header_bytes = n_header < room ? n_header : (uint32_t)room};
    f.body = f.header + f.header_bytes;
    f.body_bytes = (uint32_t)(room - f.header_bytes);
    exo_buf whole = {0};
    if (exo_frame_write(&f, &whole, NULL) == EXO_OK) {
        read_stream((const uint8_t *)whole.data, whole.n);
    }
    exo_buf_finish(&whole);
}

static void read_repaired_short(const uint8_t *bytes, size_t n) {
    if (n < EXO_FRAME_SHORT) return;
    size_t room = n - EXO_FRAME_SHORT;
    exo_frame f = {.type = bytes[1],
                   .flags = bytes[2],
                   .seq = exo_get_u32(bytes + 4),
                   .body = bytes + EXO_FRAME_SHORT,
                   .body_bytes = room < UINT8_MAX ? (uint32_t)room : UINT8_MAX};
    exo_buf whole = {0};
    CHECK(exo_frame_write_small(&f, &whole, NULL) == EXO_OK);
    CHECK(whole.data[0] == EXO_FRAME_SHORT_MARK);
    read_stream((const uint8_t *)whole.data, whole.n);
    exo_buf_finish(&whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    read_stream(bytes, n);
    read_repaired(bytes, n);
    read_repaired_short(bytes, n);
    return 0;
}
