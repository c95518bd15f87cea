# Vulkan: exo needs its headers to build and nothing of it to link.  Where the headers are missing the
# phone profile goes without; every other build says what to install.
include(cmake/spirv.cmake)
find_path(EXO_VULKAN_HEADERS vulkan/vulkan_core.h)
set(EXO_VULKAN_SOURCES "/src/compute/vulkan/|/src/compute/gpu(_test)?\\.c$|/src/cli/devices_vulkan\\.c$|_vulkan_test\\.c$")

if(EXO_VULKAN AND NOT EXO_VULKAN_HEADERS)
    if(EXO_DAEMON)
        message(FATAL_ERROR "Vulkan's headers are missing: apt install libvulkan-dev, or configure "
                            "with -DEXO_VULKAN=OFF")
    endif()
    message(STATUS "no Vulkan headers: built without GPU support")
    set(EXO_VULKAN OFF)
endif()

function(exo_vulkan target)
    target_include_directories(${target} SYSTEM PUBLIC ${EXO_VULKAN_HEADERS})
    target_compile_definitions(${target} PUBLIC EXO_VULKAN)
    target_link_libraries(${target} PUBLIC ${CMAKE_DL_LIBS})
    exo_spirv(${target})
endfunction()
