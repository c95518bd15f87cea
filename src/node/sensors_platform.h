/* sensors_platform.h - what Android and iOS tell to an app and to no file: battery, mains, heat.
 *
 * The app's side (Java, Swift) is asked by an up-call and answers in its system's own numbers; the
 * functions below turn those into sensors.
 * Thread: ANY; the up-call comes on a thread of its own, which a JVM must be told of. */
#ifndef EXO_NODE_SENSORS_PLATFORM_H
#define EXO_NODE_SENSORS_PLATFORM_H

#include "node/sensors.h"

/* Fills in what it knows; everything is unknown before.  May block; ud must stay valid until a call
 * under way has come back, also after the node's end. */
typedef struct {
    void (*read)(void *ud, exo_sensors *out);
    void *ud;
} exo_platform_sensors;

/* Android: BatteryManager's EXTRA_LEVEL and EXTRA_SCALE, EXTRA_PLUGGED (0 = on battery, -1 = not
 * known), and PowerManager.getCurrentThermalStatus (0 none to 6 shutdown, -1 = not known). */
typedef struct {
    int level, scale, plugged, thermal_status;
} exo_android_state;
void exo_sensors_from_android(const exo_android_state *s, exo_sensors *out);

/* Apple: UIDevice.batteryLevel (0 to 1, below 0 = not known), batteryState (0 unknown, 1 unplugged,
 * 2 charging, 3 full), ProcessInfo.thermalState (0 nominal to 3 critical, -1 = not known). */
typedef struct {
    double battery_level;
    int battery_state, thermal_state;
} exo_apple_state;
void exo_sensors_from_apple(const exo_apple_state *s, exo_sensors *out);

#endif
