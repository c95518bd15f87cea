/* specialise.h - a kernel's SPIR-V with its specialisation constants filled in.
 *
 * A kernel holds code for every number of columns, with and without a second matrix, and constants
 * switch off what a pipeline does not need.  Drivers are meant to drop the rest themselves; some
 * compile all of it, and some run all of it under a mask: SwiftShader takes 2 s instead of 0.2 s
 * for a product of one column.  So constants become numbers and branches that they decide go away
 * before the driver sees the module.
 *
 * Input is a module of this program, not a stranger's file.  Thread: ANY. */
#ifndef EXO_COMPUTE_VULKAN_SPECIALISE_H
#define EXO_COMPUTE_VULKAN_SPECIALISE_H

#include <exo/base.h>

typedef struct {
    const uint32_t *code;
    size_t n_words;
    const uint32_t *spec; /* value of constant_id i; one beyond n_specs keeps its default */
    uint32_t n_specs;
    const char *name; /* the entry point's name in debuggers and in tests' layers */
} exo_vk_module_desc;

/* *out is the caller's, to be freed with exo_free; *out_words its length.  What it does not know
 * how to fold stays as it is.  EXO_ENOMEM, or EXO_EINVAL when code is no SPIR-V module. */
exo_status exo_vk_specialise(const exo_vk_module_desc *desc, uint32_t **out, size_t *out_words,
                             exo_error *err);

#endif
