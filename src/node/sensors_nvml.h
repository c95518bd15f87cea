/* sensors_nvml.h - NVIDIA's GPUs, as its management library tells.
 *
 * The library is opened when it is first asked, and nothing of it is needed to build exo.  Where it
 * is not there, or its driver is not, there are no GPUs of this source.
 * Thread: any one at a time; a call takes as long as the driver does. */
#ifndef EXO_NODE_SENSORS_NVML_H
#define EXO_NODE_SENSORS_NVML_H

#include "node/sensors.h"

#define EXO_NVML_LIBRARY "libnvidia-ml.so.1"

typedef struct exo_nvml exo_nvml;

/* library: a name for dlopen, copied.  NULL without memory. */
exo_nvml *exo_nvml_create(const char *library);
/* Adds its GPUs to out. */
void exo_nvml_read(exo_nvml *n, exo_sensors *out);
void exo_nvml_destroy(exo_nvml *n); /* NULL is allowed */

#endif
