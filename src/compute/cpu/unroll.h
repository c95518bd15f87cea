/* unroll.h - the words that tile kernels need from the compiler.
 *
 * A tile is one inline function with constant sizes: its loops must unroll completely, or the
 * accumulators live in memory and the kernel is three times slower. */
#ifndef EXO_COMPUTE_CPU_UNROLL_H
#define EXO_COMPUTE_CPU_UNROLL_H

#define EXO_INLINE   static inline __attribute__((always_inline))
#define EXO_NOINLINE __attribute__((noinline))
#if defined(__clang__)
#define EXO_UNROLL    _Pragma("clang loop unroll(full)")
#define EXO_NO_UNROLL _Pragma("clang loop unroll(disable)")
#else
#define EXO_UNROLL    _Pragma("GCC unroll 16")
#define EXO_NO_UNROLL _Pragma("GCC unroll 1")
#endif

#endif
