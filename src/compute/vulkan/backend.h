/* backend.h - the Vulkan device and its buffers, as the files of this folder see them. */
#ifndef EXO_COMPUTE_VULKAN_BACKEND_H
#define EXO_COMPUTE_VULKAN_BACKEND_H

#include "compute/backend.h"
#include "compute/vulkan/shader.h"

struct exo_device {
    exo_vk_device *vk;
    exo_vk_shaders shaders;
    bool absent[EXO_VK_N_KERNELS]; /* no variant works here: host.h */
    uint32_t max_host_percent;     /* share of a plan's products that the CPU may compute */
    exo_device *host;              /* the CPU behind it, when it was needed */
    exo_device_desc host_desc;     /* how it is opened */
};

struct exo_buffer {
    exo_vk_allocation *memory;
    size_t bytes; /* asked for */
};

/* A device for an opened Vulkan device, which it borrows, without asking for a verdict: the
 * self-test and tests of kernels work on these. */
exo_status exo_vk_device_wrap(exo_vk_device *vk, exo_device **out, exo_error *err);
void exo_vk_device_unwrap(exo_device *d); /* the Vulkan device stays open; NULL is allowed */

exo_status exo_vk_plan_create(exo_device *d, const exo_plan_desc *desc, exo_plan **out,
                              exo_error *err);
bool exo_vk_plan_has_classes(const exo_plan *p);
exo_status exo_vk_plan_run(exo_plan *p, const exo_plan_args *args, exo_error *err);
void exo_vk_plan_destroy(exo_plan *p);
bool exo_vk_plan_takes_asks(const exo_plan *p);
exo_status exo_vk_plan_read_logits(exo_plan *p, uint32_t i, float *out, exo_error *err);
/* The first n_rows rows of a slot as the last step left them, (n_rows, width): for tests. */
exo_status exo_vk_plan_read_slot(exo_plan *p, uint32_t slot, uint32_t n_rows, float *out,
                                 exo_error *err);
/* The first words of the int8 inputs that the last dot kernel was given: for tests. */
exo_status exo_vk_plan_read_bytes(exo_plan *p, uint32_t n_words, uint32_t *out, exo_error *err);

#endif
