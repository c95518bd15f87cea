/* slots.c - see slots.h. */
#include "compute/cpu/slots.h"

#include "compute/cpu/plan.h"

float *exo_cpu_plan_slot(exo_plan *p, uint32_t slot, size_t *ld) {
    *ld = p->slot_ld[slot];
    return p->slots[slot];
}
