# The warning set of the project; errors unless EXO_WERROR is off.
set(EXO_WARNINGS -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes
    -Wundef -Wvla)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
    list(APPEND EXO_WARNINGS -Wno-format-truncation) # messages are cut on purpose
endif()
if(EXO_WERROR)
    list(APPEND EXO_WARNINGS -Werror)
endif()
set(EXO_CONVERSION_FOLDERS base net model) # these read hostile bytes: no silent narrowing

# Bits are part of the contract (design, Exactness): no contraction, no fast-math anywhere.
add_compile_options(-fvisibility=hidden -ffp-contract=off -fno-math-errno -fno-strict-aliasing)
if(CMAKE_BUILD_TYPE STREQUAL "Release")
    add_compile_options(-ffunction-sections -fdata-sections)
    if(APPLE)
        add_link_options(-Wl,-dead_strip)
    else()
        add_link_options(-Wl,--gc-sections)
    endif()
endif()
if(EXO_SANITIZE)
    add_compile_options(-fsanitize=${EXO_SANITIZE} -fno-omit-frame-pointer
                        -fno-sanitize-recover=all)
    add_link_options(-fsanitize=${EXO_SANITIZE})
endif()
if(EXO_COVERAGE)
    add_compile_options(--coverage -fprofile-update=atomic)
    add_link_options(--coverage)
endif()
if(EXO_TESTS)
    add_compile_definitions(EXO_TEST_HOOKS)
endif()
