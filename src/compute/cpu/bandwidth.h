/* bandwidth.h - what plain reading reaches on this machine: the roof of decoding. */
#ifndef EXO_COMPUTE_CPU_BANDWIDTH_H
#define EXO_COMPUTE_CPU_BANDWIDTH_H

/* GB/s (1e9) that n_threads (0 = one per core this process may use) read together from main
 * memory with the best instruction set, best of about ms milliseconds of tries.  0 when memory
 * or threads are lacking.  Thread: ANY; takes 512 MB for the time of the call. */
double exo_cpu_read_bandwidth(unsigned n_threads, unsigned ms);

#endif
