/* json_limits.h - how much a JSON text of a stranger may ask for, before a parser builds it.
 *
 * A parser's tree takes up to a hundred times its text: "[],[],[]," is three bytes a list.  One
 * pass over the text counts what the tree would hold and refuses what no real file has, so that a
 * small file cannot take a machine's memory.  It does not check grammar: that is the parser's,
 * and a text that is no JSON is counted as a parser would meet it, up to where that gives up.
 * Linear time, no memory.  Thread: ANY. */
#ifndef EXO_MODEL_JSON_LIMITS_H
#define EXO_MODEL_JSON_LIMITS_H

#include <exo/base.h>
#include <stddef.h>
#include <stdint.h>

/* All of them count; each is the largest number that is still accepted. */
typedef struct {
    uint32_t depth;      /* of lists and objects within each other; a lone number has 0 */
    uint32_t containers; /* lists and objects */
    uint32_t values;     /* containers, scalars and the names of members */
    size_t string_bytes; /* of one string or name, as written: escapes are not resolved */
} exo_json_limits;

/* EXO_EUNSUPPORTED says what there is too much of, where, and how much is accepted. */
exo_status exo_json_check(const char *text, size_t n, const exo_json_limits *limits,
                          exo_error *err);

#endif
