/* mach/mach.h - what exo uses of Mach, declared from Apple's documentation; see ../../parse.sh. */
#ifndef EXO_TESTS_APPLE_MACH_H
#define EXO_TESTS_APPLE_MACH_H

#include <stdint.h>

typedef int kern_return_t, integer_t, host_flavor_t;
typedef unsigned int natural_t, mach_port_t;
typedef natural_t mach_msg_type_number_t;
typedef integer_t *host_info_t, *host_info64_t;
typedef uintptr_t vm_size_t;
#define KERN_SUCCESS 0

enum { CPU_STATE_USER, CPU_STATE_SYSTEM, CPU_STATE_IDLE, CPU_STATE_NICE };
#define HOST_CPU_LOAD_INFO 3
typedef struct {
    natural_t cpu_ticks[4];
} host_cpu_load_info_data_t;
#define HOST_CPU_LOAD_INFO_COUNT                                                                   \
    ((mach_msg_type_number_t)(sizeof(host_cpu_load_info_data_t) / sizeof(integer_t)))

#define HOST_VM_INFO64 4
typedef struct {
    natural_t free_count, active_count, inactive_count, wire_count;
    uint64_t zero_fill_count, reactivations, pageins, pageouts, faults, cow_faults, lookups, hits,
        purges;
    natural_t purgeable_count, speculative_count;
    uint64_t decompressions, compressions, swapins, swapouts;
    natural_t compressor_page_count, throttled_count, external_page_count, internal_page_count;
    uint64_t total_uncompressed_pages_in_compressor;
} vm_statistics64_data_t;
#define HOST_VM_INFO64_COUNT                                                                       \
    ((mach_msg_type_number_t)(sizeof(vm_statistics64_data_t) / sizeof(integer_t)))

mach_port_t mach_host_self(void);
mach_port_t mach_task_self(void);
kern_return_t mach_port_deallocate(mach_port_t task, mach_port_t name);
kern_return_t host_statistics(mach_port_t host, host_flavor_t flavor, host_info_t out,
                              mach_msg_type_number_t *n);
kern_return_t host_statistics64(mach_port_t host, host_flavor_t flavor, host_info64_t out,
                                mach_msg_type_number_t *n);
extern vm_size_t vm_kernel_page_size;

#endif
