/* libkern/OSThermalNotification.h - declared from Apple's documentation. */
typedef enum {
    kOSThermalPressureLevelNominal = 0,
    kOSThermalPressureLevelModerate,
    kOSThermalPressureLevelHeavy,
    kOSThermalPressureLevelTrapping,
    kOSThermalPressureLevelSleeping
} OSThermalPressureLevel;
extern const char *const kOSThermalNotificationPressureLevelName;
