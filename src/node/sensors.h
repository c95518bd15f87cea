/* sensors.h - how hot and how busy this machine is, as the system tells it.
 *
 * Whatever has no sensor, or one that this process may not read, is unknown (NAN,
 * EXO_BYTES_UNKNOWN) and never 0.  Load and power are figures over the time since the read before,
 * so the first read knows neither.
 *
 * A read takes well under a millisecond on most machines, but the driver of a battery or of a
 * sensor chip may take much longer: it never runs on LOOP (sensors_reader.h).  One file per
 * platform: sensors_linux.c (Android too), sensors_macos.c (iOS too); elsewhere (sensors_none.c)
 * everything is unknown.  What Android and iOS tell to apps only comes by up-call, see
 * sensors_platform.h.
 * Thread: ANY, one at a time per object. */
#ifndef EXO_NODE_SENSORS_H
#define EXO_NODE_SENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXO_SENSORS_MAX_GPUS     8
#define EXO_SENSORS_MAX_PACKAGES 8

typedef enum { EXO_MAINS_UNKNOWN, EXO_MAINS_NO, EXO_MAINS_YES } exo_mains;

/* How hot a system says that it is: some tell that and no temperature. */
typedef enum {
    EXO_HEAT_UNKNOWN,
    EXO_HEAT_NORMAL,
    EXO_HEAT_WARNING,
    EXO_HEAT_THROTTLING,
    EXO_HEAT_CRITICAL
} exo_heat;

typedef struct {
    uint32_t pci_vendor;  /* 0x1002; 0 = it is on no PCI bus */
    char pci_address[16]; /* "0000:01:00.0"; "" = not known */
    double busy_percent, temperature_celsius, power_watts, clock_mhz;
    uint64_t memory_used_bytes, memory_total_bytes; /* of its own */
} exo_gpu_sensors;

typedef struct {
    double at_s;                                                      /* since 1970 */
    double load_percent, temperature_celsius, power_watts, clock_mhz; /* of the processor */
    uint64_t memory_used_bytes, memory_total_bytes;
    double battery_percent; /* NAN: there is none */
    exo_mains mains;
    exo_heat heat; /* as the system judges it */
    size_t n_gpus;
    exo_gpu_sensors gpus[EXO_SENSORS_MAX_GPUS];
} exo_sensors;

/* What the next read counts from; all-zero memory at first. */
typedef struct {
    bool has_ticks, has_energy;
    uint64_t busy_ticks, all_ticks;
    size_t n_packages;
    uint64_t energy_uj[EXO_SENSORS_MAX_PACKAGES], energy_at_ns;
} exo_sensors_before;

/* root: "" for this machine, a folder with proc/ and sys/ for tests.  Blocks as long as the
 * drivers take. */
void exo_sensors_read(const char *root, exo_sensors_before *before, exo_sensors *out);
/* All unknown. */
void exo_sensors_clear(exo_sensors *out);
/* What more knows, into: a figure replaces one that was unknown, of heat the worse counts, a GPU
 * joins the one at its address on the bus. */
void exo_sensors_merge(exo_sensors *into, const exo_sensors *more);

#endif
