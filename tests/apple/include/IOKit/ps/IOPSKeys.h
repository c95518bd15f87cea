/* IOKit/ps/IOPSKeys.h - what exo uses of it, declared from Apple's documentation. */
#define kIOPSTypeKey             "Type"
#define kIOPSInternalBatteryType "InternalBattery"
#define kIOPSCurrentCapacityKey  "Current Capacity"
#define kIOPSMaxCapacityKey      "Max Capacity"
#define kIOPSPowerSourceStateKey "Power Source State"
#define kIOPSACPowerValue        "AC Power"
