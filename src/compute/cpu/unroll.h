/* unroll.h - the words that tile kernels need from the compiler.
 *
 * A tile is one inline function with constant sizes: its loops must unroll completely, or the
 * accumulators live in memory and the kernel is three times slower. */
#ifndef EXO_COMPUTE_CPU_UNROLL_H
#define EXO_COMPUTE_CPU_UNROLL_H

/* Sanitizers would blow the unrolled tiles up a hundredfold, and see nothing: what tiles read and
 * write is mapped memory that sanitizers do not track.  Tests put guard pages around it. */
#define EXO_UNCHECKED                                                                              \
    __attribute__((no_sanitize("address"), no_sanitize("undefined"), no_sanitize("thread")))
#define EXO_INLINE   static inline __attribute__((always_inline)) EXO_UNCHECKED
#define EXO_NOINLINE __attribute__((noinline)) EXO_UNCHECKED
#if defined(__clang__)
#define EXO_UNROLL    _Pragma("clang loop unroll(full)")
#define EXO_NO_UNROLL _Pragma("clang loop unroll(disable)")
#else
#define EXO_UNROLL    _Pragma("GCC unroll 16")
#define EXO_NO_UNROLL _Pragma("GCC unroll 1")
#endif

#endif
