/* gpu.h - the machine's Vulkan devices as plain memory: list, allocate, copy, free.
 *
 * What JNI and Python call.  Memory is named by handles, never by pointers: a handle that was
 * freed, belongs to another context or was never given out is EXO_EINVAL, and every range is
 * checked, so no argument can crash the host process.  Devices are tried out (and their bandwidth
 * measured) before they are listed as usable.
 *
 * Contents of fresh memory are undefined.  Thread: ANY; calls on one context take turns. */
#ifndef EXO_GPU_H
#define EXO_GPU_H

#include <exo/base.h>

typedef struct exo_gpu exo_gpu;  /* the context: loader, devices, allocations */
typedef uint64_t exo_gpu_handle; /* one allocation; 0 is never one */

typedef struct {
    char device_id[32]; /* "vulkan:0": its place in the list, for this run */
    char uuid[40];      /* the driver's UUID for it, hex: the same in every run */
    char name[128];
    char vendor[32];
    char driver_version[128];
    char type[16];          /* "discrete", "integrated", "virtual", "cpu", "other" */
    uint32_t compute_units; /* 0 = no driver extension tells */
    uint64_t memory_bytes;  /* its own memory, or what it shares with the host */
    double bandwidth_gbps;  /* measured: copies within the device, read + written bytes */
    bool unified;           /* host and device share their memory */
    bool usable;
    char reason[EXO_ERROR_BYTES]; /* why not; "" when usable */
} exo_gpu_info;

typedef struct {
    uint64_t total_bytes;     /* the device's memory */
    uint64_t available_bytes; /* that can still be allocated */
    uint64_t allocated_bytes; /* sum of the sizes of live allocations */
    uint64_t reserved_bytes;  /* what exo holds from the driver for them */
    uint64_t n_allocations;
} exo_gpu_memory;

/* AllocationInfo. */
typedef struct {
    exo_gpu_handle handle;
    uint32_t device;      /* N of vulkan:N */
    uint32_t memory_type; /* Vulkan memory type index */
    uint64_t id;          /* unique on its device */
    uint64_t size;
    uint64_t offset; /* within its memory block */
    void *mapped;    /* its bytes in host memory, or NULL */
} exo_gpu_allocation;

/* Loads Vulkan and tries its devices.  EXO_ENOTFOUND without loader or driver; EXO_EIO when a
 * driver crashes.  Verdicts are kept under EXO_HOME (or ~/.exo), which must be writable. */
EXO_API exo_status exo_gpu_create(exo_gpu **out, exo_error *err);
/* Frees all of its allocations.  NULL is allowed. */
EXO_API void exo_gpu_destroy(exo_gpu *g);

EXO_API uint32_t exo_gpu_count(const exo_gpu *g);
EXO_API exo_status exo_gpu_get_info(const exo_gpu *g, uint32_t device, exo_gpu_info *out,
                                    exo_error *err);
/* {"devices":[{"device_id":...,"name":...,"vendor":...,"memory_bytes":...,"compute_units":...,
 * "bandwidth_gbps":...,...}],"count":1}; freed by exo_gpu_free_string. */
EXO_API exo_status exo_gpu_devices_json(const exo_gpu *g, char **out, exo_error *err);
EXO_API void exo_gpu_free_string(char *s);
EXO_API exo_status exo_gpu_get_memory(exo_gpu *g, uint32_t device, exo_gpu_memory *out,
                                      exo_error *err);

/* EXO_ENOMEM with the numbers when it does not fit. */
EXO_API exo_status exo_gpu_allocate(exo_gpu *g, uint32_t device, uint64_t bytes,
                                    exo_gpu_handle *out, exo_error *err);
EXO_API exo_status exo_gpu_free(exo_gpu *g, exo_gpu_handle handle, exo_error *err);
EXO_API exo_status exo_gpu_get_allocation(exo_gpu *g, exo_gpu_handle handle,
                                          exo_gpu_allocation *out, exo_error *err);

/* All three return when the bytes have arrived. */
EXO_API exo_status exo_gpu_copy_to_device(exo_gpu *g, exo_gpu_handle dst, uint64_t offset,
                                          const void *src, uint64_t bytes, exo_error *err);
EXO_API exo_status exo_gpu_copy_from_device(exo_gpu *g, void *dst, exo_gpu_handle src,
                                            uint64_t offset, uint64_t bytes, exo_error *err);
typedef struct {
    exo_gpu_handle dst, src; /* on one device or two */
    uint64_t dst_offset, src_offset, bytes;
} exo_gpu_copy;
EXO_API exo_status exo_gpu_copy_device_to_device(exo_gpu *g, const exo_gpu_copy *copy,
                                                 exo_error *err);
/* Waits for everything under way on the device. */
EXO_API exo_status exo_gpu_synchronize(exo_gpu *g, uint32_t device, exo_error *err);

#endif
