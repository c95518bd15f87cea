/* fuzz_safetensors.c - any bytes as a safetensors file: refused, or every claim in it is true. */
#include "fuzz/target.h"
#include "model/safetensors.h"

#include <stdlib.h>

static volatile uint8_t sink;

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    exo_safetensors s;
    exo_error err = {0};
    if (exo_safetensors_parse(bytes, n, &s, &err) != EXO_OK) {
        if (s.tensors != NULL || s.header != NULL || err.message[0] == '\0') abort();
        return 0;
    }
    const uint8_t *end = bytes + n;
    for (size_t i = s.n; i-- > 0;) { /* they cover the end of the file without gaps */
        const exo_safetensor *t = &s.tensors[i];
        if (t->data + t->bytes != end) abort();
        if (t->bytes > 0) sink = (uint8_t)(t->data[0] ^ t->data[t->bytes - 1]);
        end = t->data;
    }
    if (end < bytes + 8) abort();
    exo_safetensors_finish(&s);
    return 0;
}
