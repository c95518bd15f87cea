/* template.h - chat templates: a Jinja evaluator over JSON values.
 *
 * Behaves as jinja2 in the way transformers sets it up (trim_blocks, lstrip_blocks, loop
 * controls, tojson without HTML escaping).  Templates are hostile input: steps, depth and output
 * bytes are limited, and a breach is an error like any other.
 * Thread: ANY; a compiled template is read-only. */
#ifndef EXO_MODEL_TEMPLATE_H
#define EXO_MODEL_TEMPLATE_H

#include "base/buf.h"
#include "model/model.h"

#include <jansson.h>

exo_status exo_template_compile(const char *source, size_t n, exo_template **out, exo_error *err);
void exo_template_destroy(exo_template *t); /* NULL is allowed */

typedef struct {        /* all-zero = the machine's clock and the built-in limits */
    int64_t now_unix;   /* what strftime_now sees; 0 = now */
    uint64_t max_steps; /* fewer steps than the built-in limit; 0 = that limit */
} exo_template_desc;

/* vars: a JSON object whose members are the template's variables (messages, tools,
 * add_generation_prompt, bos_token, eos_token, ...); borrowed.  Appends the rendered bytes.
 * raise_exception(m) in the template: EXO_EINVAL with m as the message. */
exo_status exo_template_render(const exo_template *t, json_t *vars, const exo_template_desc *desc,
                               exo_buf *out, exo_error *err);

#endif
