/* html_entities.h - named character references, "amp;" to "&".
 *
 * Thread: ANY. */
#ifndef EXO_MODEL_HTML_ENTITIES_H
#define EXO_MODEL_HTML_ENTITIES_H

#include <stddef.h>

/* The text that name (n bytes, without NUL bytes; its semicolon is part of it) stands for, or
 * NULL. */
const char *exo_html_entity(const char *name, size_t n);

#endif
