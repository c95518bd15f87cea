/* qr.h - a QR code as text for a terminal, two rows of modules per line.  Thread: ANY. */
#ifndef EXO_CLI_QR_H
#define EXO_CLI_QR_H

#include "base/buf.h"

/* Appends the picture; false (and nothing appended) without the library or when text is too
 * long. */
bool exo_qr_draw(const char *text, exo_buf *out);

#endif
