# Unit tests: src/F/foo_test.c becomes F_foo_test, linked with exo_F and cmocka, label "unit".
# Each runs in its own process with a deadline; EXO_SHARED_DATA names the folder of real models.
pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)
set(EXO_SHARED_DATA ${CMAKE_SOURCE_DIR}/../shared/data)

function(exo_unit_test folder)
    file(GLOB_RECURSE tests CONFIGURE_DEPENDS src/${folder}/*_test.c)
    foreach(source ${tests})
        get_filename_component(stem ${source} NAME_WE)
        set(name ${folder}_${stem})
        add_executable(${name} ${source})
        target_link_libraries(${name} PRIVATE exo_${folder} PkgConfig::CMOCKA)
        target_include_directories(${name} PRIVATE tests)
        target_compile_options(${name} PRIVATE ${EXO_WARNINGS})
        target_compile_definitions(${name} PRIVATE EXO_SHARED_DATA="${EXO_SHARED_DATA}"
            EXO_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
        add_test(NAME ${name} COMMAND ${name})
        set_tests_properties(${name} PROPERTIES LABELS unit TIMEOUT 300)
    endforeach()
endfunction()

foreach(folder base compute model engine net cluster node)
    exo_unit_test(${folder})
endforeach()
if(EXO_DAEMON)
    exo_unit_test(api)
endif()
include(cmake/fuzz.cmake) # the corpora, replayed

# Real processes, driven by pytest; they run the release binary unless EXO names another.
foreach(suite cli api cluster hosts clients slow tiny)
    add_test(NAME integration_${suite}
        COMMAND /usr/bin/python3 -m pytest -q -p no:cacheprovider tests/integration/test_${suite}.py
        WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    set_tests_properties(integration_${suite} PROPERTIES LABELS integration TIMEOUT 600
        RUN_SERIAL TRUE)
endforeach()

# The forward pass against llama.cpp's, from npm; where that cannot be had, pytest exits with 5.
add_test(NAME oracle
    COMMAND /usr/bin/python3 -m pytest -q -rs -p no:cacheprovider tests/oracle/test_oracle.py
    WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
set_tests_properties(oracle PROPERTIES LABELS oracle TIMEOUT 600
    RUN_SERIAL TRUE SKIP_RETURN_CODE 5)

# The same bits on ARM: kernels built by the cross compiler, run under qemu.
add_test(NAME neon_bits COMMAND tests/neon/run.sh ${CMAKE_BINARY_DIR}/neon
    WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
set_tests_properties(neon_bits PROPERTIES LABELS neon TIMEOUT 900 SKIP_RETURN_CODE 77)

# All of exo on ARM, emulated: whole models and a node beside one of this machine.
add_test(NAME neon_whole COMMAND tests/neon/whole.sh WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
set_tests_properties(neon_whole PROPERTIES LABELS neon TIMEOUT 900 RUN_SERIAL TRUE
    SKIP_RETURN_CODE 77)
