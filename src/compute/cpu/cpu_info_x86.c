/* cpu_info_x86.c - which instructions an x86 processor has, as far as exo has kernels for them.
 *
 * In a file of its own, so that a test that emulates instructions can say that they are there. */
#include "compute/cpu/cpu_info.h"

#if defined(__x86_64__)
#include <cpuid.h>

#define AVX_VNNI_BIT (1u << 4) /* CPUID leaf 7, sub-leaf 1, EAX */

/* The compiler's own question, which some of them do not know for AVX-VNNI, also covers whether
 * the system keeps the registers. */
bool exo_cpu_has_avxvnni(void) {
    unsigned eax = 0, ebx, ecx, edx;
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return false;
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || eax < 1) return false;
    return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax & AVX_VNNI_BIT) != 0;
}

bool exo_cpu_has_avx512_vnni(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma");
}
#endif
