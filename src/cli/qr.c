/* qr.c - libqrencode's modules as half blocks; builds without the library draw nothing. */
#include "cli/qr.h"

#ifdef EXO_QRENCODE
#include <qrencode.h>

#define QUIET 2 /* modules of white around the code */

static bool is_dark(const QRcode *q, int x, int y) {
    if (x < 0 || y < 0 || x >= q->width || y >= q->width) return false;
    return (q->data[y * q->width + x] & 1) != 0;
}

/* White on the terminal's black reads as well as black on white, so dark modules stay empty. */
bool exo_qr_draw(const char *text, exo_buf *out) {
    QRcode *q = QRcode_encodeString(text, 0, QR_ECLEVEL_L, QR_MODE_8, 1);
    if (q == NULL) return false;
    for (int y = -QUIET; y < q->width + QUIET; y += 2) {
        exo_buf_puts(out, "    ");
        for (int x = -QUIET; x < q->width + QUIET; x++) {
            bool top = !is_dark(q, x, y), bottom = !is_dark(q, x, y + 1);
            exo_buf_puts(out, top ? (bottom ? "█" : "▀") : (bottom ? "▄" : " "));
        }
        exo_buf_putc(out, '\n');
    }
    QRcode_free(q);
    return true;
}
#else
bool exo_qr_draw(const char *text, exo_buf *out) {
    (void)text;
    (void)out;
    return false;
}
#endif
