/* sensors_platform.c - see sensors_platform.h.  Built and tested everywhere: it is numbers only. */
#include "node/sensors_platform.h"

void exo_sensors_from_android(const exo_android_state *s, exo_sensors *out) {
    /* NONE, LIGHT, MODERATE, SEVERE, CRITICAL, EMERGENCY, SHUTDOWN: from MODERATE on the system
     * asks apps to do less, from SEVERE on it slows the machine. */
    static const exo_heat heats[] = {EXO_HEAT_NORMAL,     EXO_HEAT_NORMAL,   EXO_HEAT_WARNING,
                                     EXO_HEAT_THROTTLING, EXO_HEAT_CRITICAL, EXO_HEAT_CRITICAL,
                                     EXO_HEAT_CRITICAL};
    int n = (int)(sizeof heats / sizeof heats[0]);
    if (s->scale > 0 && s->level >= 0 && s->level <= s->scale) {
        out->battery_percent = 100.0 * s->level / s->scale;
    }
    if (s->plugged >= 0) out->mains = s->plugged > 0 ? EXO_MAINS_YES : EXO_MAINS_NO;
    if (s->thermal_status >= 0 && s->thermal_status < n) out->heat = heats[s->thermal_status];
}

void exo_sensors_from_apple(const exo_apple_state *s, exo_sensors *out) {
    static const exo_heat heats[] = {EXO_HEAT_NORMAL, EXO_HEAT_WARNING, EXO_HEAT_THROTTLING,
                                     EXO_HEAT_CRITICAL};
    if (s->battery_level >= 0 && s->battery_level <= 1) {
        out->battery_percent = 100 * s->battery_level;
    }
    if (s->battery_state == 1) out->mains = EXO_MAINS_NO;
    if (s->battery_state == 2 || s->battery_state == 3) out->mains = EXO_MAINS_YES;
    if (s->thermal_state >= 0 && s->thermal_state <= 3) out->heat = heats[s->thermal_state];
}
