/* cpu_info.c - instead of src/compute/cpu/cpu_info_x86.c: emulated, every instruction is there. */
#include "compute/cpu/cpu_info.h"

static bool emulated(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

bool exo_cpu_has_avxvnni(void) { return emulated(); }
bool exo_cpu_has_avx512_vnni(void) { return emulated(); }
