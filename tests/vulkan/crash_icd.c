/* crash_icd.c - a Vulkan driver that dies as soon as the loader speaks to it. */
#include <signal.h>
#include <stdint.h>
#include <vulkan/vulkan_core.h>

__attribute__((visibility("default"))) VkResult
vk_icdNegotiateLoaderICDInterfaceVersion(uint32_t *version);

VkResult vk_icdNegotiateLoaderICDInterfaceVersion(uint32_t *version) {
    (void)version;
    (void)signal(SIGSEGV, SIG_DFL); /* also under a sanitizer */
    (void)raise(SIGSEGV);
    return VK_ERROR_INCOMPATIBLE_DRIVER;
}
