/* sensors_none.c - a platform whose sensors exo cannot read: everything is unknown. */
#include "node/sensors.h"

#include "base/clock.h"

#if !defined __linux__ && !defined __APPLE__
void exo_sensors_read(const char *root, exo_sensors_before *before, exo_sensors *out) {
    (void)root;
    (void)before;
    exo_sensors_clear(out);
    out->at_s = exo_unix_time();
}
#endif
