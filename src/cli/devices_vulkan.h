/* devices_vulkan.h - Vulkan on the command line: what `exo devices` tells of it, and the child
 * process that tries devices out.
 *
 * The only place where the command line knows of Vulkan; a build without it has the two empty
 * functions below.  Thread: main. */
#ifndef EXO_CLI_DEVICES_VULKAN_H
#define EXO_CLI_DEVICES_VULKAN_H

#include <jansson.h>
#include <stdbool.h>

#ifdef EXO_VULKAN

/* First thing in main(): true when this process was started to try a device, which is done then;
 * main() calls _exit(*exit_code). */
bool exo_cli_vulkan_child(int argc, char **argv, int *exit_code);

/* Appends one object per Vulkan device to list: those of `exo devices --json`.  What keeps a
 * device, or all of Vulkan, out is an object of its own with "usable": false and the reason.
 * `again` tries every device anew (what crashed stays out). */
void exo_cli_vulkan_devices(json_t *list, bool again);

#else

static inline bool exo_cli_vulkan_child(int argc, char **argv, int *exit_code) {
    (void)argc, (void)argv, (void)exit_code;
    return false;
}
static inline void exo_cli_vulkan_devices(json_t *list, bool again) { (void)list, (void)again; }

#endif
#endif
