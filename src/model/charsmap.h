/* charsmap.h - SentencePiece's precompiled character map: what to replace by what.
 *
 * A u32 of bytes, then that many bytes of a double-array trie over the texts to be replaced (units
 * of 32 bits: label in bits 0-7, "a value stands below" in bit 8, distance to the children in
 * bits 10-30, shifted by 8 if bit 9 is set; a value has bit 31), then the replacements, each ended
 * by a zero byte; a value is the place of one.  Files are hostile: no unit outside is read. */
#ifndef EXO_MODEL_CHARSMAP_H
#define EXO_MODEL_CHARSMAP_H

#include "model/gguf.h"

/* Whether the n bytes are a table and texts that end within them; what follows wants that. */
bool exo_charsmap_is_whole(const uint8_t *map, size_t n);
/* The longest text that s begins with and is replaced: *used bytes of s by *text; *used is 0
 * where nothing is.  False: the map points outside of itself. */
bool exo_charsmap_longest(const uint8_t *map, size_t n_map, exo_str s, size_t *used, exo_str *text);
/* What stands for the whole of s, by the shortest text that s begins with: the way of Hugging
 * Face's library.  False: nothing does. */
bool exo_charsmap_shortest(const uint8_t *map, size_t n_map, exo_str s, exo_str *text);

#endif
