# The AVX-512 and AVX-VNNI kernels once more, for an emulation of these instructions that runs on any
# machine with AVX2 (tests/emulate): the same source files, the same tests, the same bits.
if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" OR NOT CMAKE_C_COMPILER_ID STREQUAL "GNU"
   OR EXO_SANITIZE OR EXO_COVERAGE)
    return()
endif()
find_path(EXO_SIMDE simde/x86/avx512/dpbusd.h)
if(NOT EXO_SIMDE)
    add_test(NAME compute_kernels_emulated COMMAND ${CMAKE_COMMAND} -E echo "skipped: no SIMDe")
    set_tests_properties(compute_kernels_emulated PROPERTIES LABELS unit
        SKIP_REGULAR_EXPRESSION "skipped: no ")
    return()
endif()

# Through files of their own: a source file's flags are the same for every target.
file(GLOB kernels CONFIGURE_DEPENDS src/compute/cpu/*_avxvnni.c src/compute/cpu/*_avx512.c)
foreach(kernel ${kernels})
    get_filename_component(name ${kernel} NAME)
    file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/emulate/${name} CONTENT "#include \"${kernel}\"\n")
    list(APPEND emulated ${CMAKE_BINARY_DIR}/emulate/${name})
endforeach()
add_library(exo_emulated OBJECT ${emulated})
target_include_directories(exo_emulated BEFORE PRIVATE tests/emulate src include)
# Tiles that are not unrolled compile in a sixth of the time.
target_compile_options(exo_emulated PRIVATE ${EXO_WARNINGS} -Wno-psabi -mavx2 -mfma -mf16c -g0
    -O1 -fno-tree-ter -fno-ivopts -fno-tree-loop-optimize)
add_executable(compute_kernels_emulated_test src/compute/cpu/kernels_test.c tests/emulate/cpu_info.c
    $<TARGET_OBJECTS:exo_emulated>)
target_link_libraries(compute_kernels_emulated_test PRIVATE exo_compute PkgConfig::CMOCKA)
target_compile_options(compute_kernels_emulated_test PRIVATE ${EXO_WARNINGS})
foreach(isa avx512 avxvnni)
    add_test(NAME compute_kernels_emulated_${isa} COMMAND compute_kernels_emulated_test)
    set_tests_properties(compute_kernels_emulated_${isa} PROPERTIES LABELS unit
        TIMEOUT ${EXO_UNIT_SECONDS} ENVIRONMENT "EXO_TEST_ISA=${isa}")
endforeach()
