/* slots.h - the CPU as a helper of another backend: what of its plans that backend must reach.
 *
 * A backend that leaves single operations to the CPU makes a plan of them there and carries the
 * activations over and back.  Slot 0 goes through x_in and x_out as in any plan.
 * Thread: COMPUTE. */
#ifndef EXO_COMPUTE_CPU_SLOTS_H
#define EXO_COMPUTE_CPU_SLOTS_H

#include "compute/backend.h"

/* A slot of a CPU plan, (max_rows, *ld) floats: filled before a step, read after it. */
float *exo_cpu_plan_slot(exo_plan *p, uint32_t slot, size_t *ld);

#endif
