# Writes exo/version.h: release number, commit and build options, for `exo --version`.
find_package(Git QUIET)
set(EXO_COMMIT "unknown")
if(GIT_FOUND AND EXISTS ${CMAKE_SOURCE_DIR}/.git)
    execute_process(COMMAND ${GIT_EXECUTABLE} describe --always --dirty --abbrev=12
        WORKING_DIRECTORY ${CMAKE_SOURCE_DIR} OUTPUT_VARIABLE EXO_COMMIT
        OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
set(EXO_BUILD_OPTIONS "${CMAKE_C_COMPILER_ID} ${CMAKE_C_COMPILER_VERSION} ${CMAKE_BUILD_TYPE}")
foreach(part DAEMON DNSSD VULKAN EMBED_TINY FUZZ COVERAGE)
    if(EXO_${part})
        string(APPEND EXO_BUILD_OPTIONS " +${part}")
    endif()
endforeach()
if(EXO_SANITIZE)
    string(APPEND EXO_BUILD_OPTIONS " sanitize=${EXO_SANITIZE}")
endif()
configure_file(cmake/version.h.in ${CMAKE_BINARY_DIR}/generated/exo/version.h @ONLY)
