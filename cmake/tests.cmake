# Unit tests: src/F/foo_test.c becomes F_foo_test, linked with exo_F and cmocka, label "unit".
# Each runs in its own process with a deadline; EXO_SHARED_DATA names the folder of real models.
pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)
set(EXO_SHARED_DATA ${CMAKE_SOURCE_DIR}/../shared/data)

# The software Vulkan devices of the tests, made once for all builds of this checkout, and what
# Mesa compiled for one of them.
set(EXO_VULKAN_ICD_DIR ${CMAKE_SOURCE_DIR}/build/vulkan)
set(EXO_VULKAN_ENVIRONMENT "EXO_VULKAN_ICD_DIR=${EXO_VULKAN_ICD_DIR}"
    "MESA_SHADER_CACHE_DIR=${EXO_VULKAN_ICD_DIR}/mesa")
if(EXO_VULKAN)
    add_test(NAME vulkan_drivers COMMAND ${CMAKE_SOURCE_DIR}/tests/vulkan/icd.sh
        ${EXO_VULKAN_ICD_DIR})
    set_tests_properties(vulkan_drivers PROPERTIES LABELS "unit;vulkan" TIMEOUT 400
        SKIP_RETURN_CODE 77 FIXTURES_SETUP vulkan)
endif()

# One entry per device.  A driver fixes its subgroup size when it is loaded, so each size is an entry
# too, where kernels run; sanitizers look at the host's code, for which one size does.  Leaks are
# looked for on lavapipe: SwiftShader's threads end while LeakSanitizer reads their stacks, which
# now and then ends the sanitizer itself.
function(exo_vulkan_entries name source)
    set(entries lavapipe swiftshader)
    if(source MATCHES "/(kernels|plan|plan_head)_test\\.c$" AND NOT EXO_SANITIZE)
        set(entries lavapipe_4 lavapipe_8 lavapipe_16 swiftshader)
    endif()
    file(STRINGS ${source} on_host REGEX "cmocka_unit_test\\(")
    if(on_host)
        add_test(NAME ${name} COMMAND ${name} "test_*")
        set_property(TEST ${name} PROPERTY ENVIRONMENT ${EXO_VULKAN_ENVIRONMENT})
        list(APPEND names ${name})
    endif()
    foreach(entry ${entries})
        string(REGEX MATCH "^[a-z]+" driver ${entry})
        string(REGEX MATCH "[0-9]+$" lanes ${entry})
        add_test(NAME ${name}_${entry} COMMAND ${name} "*(${driver})")
        set_property(TEST ${name}_${entry} PROPERTY ENVIRONMENT ${EXO_VULKAN_ENVIRONMENT})
        if(lanes)
            math(EXPR bits "32 * ${lanes}")
            set_property(TEST ${name}_${entry} APPEND PROPERTY
                ENVIRONMENT "LP_NATIVE_VECTOR_WIDTH=${bits}")
        endif()
        if(driver STREQUAL swiftshader AND EXO_SANITIZE MATCHES "address")
            set_property(TEST ${name}_${entry} APPEND PROPERTY
                ENVIRONMENT "ASAN_OPTIONS=detect_leaks=0")
        endif()
        if(lanes) # minutes each: begun first, the one whose pipelines later runs find before the others
            set_property(TEST ${name}_${entry} PROPERTY COST 200)
            if(lanes EQUAL 8)
                set_property(TEST ${name}_${entry} PROPERTY COST 300)
            endif()
        endif()
        list(APPEND names ${name}_${entry})
    endforeach()
    set_tests_properties(${names} PROPERTIES LABELS "unit;vulkan" TIMEOUT 900
        FIXTURES_REQUIRED vulkan SKIP_REGULAR_EXPRESSION "skipped: no "
        FAIL_REGULAR_EXPRESSION "Running 0 test")
endfunction()

set(EXO_UNIT_SECONDS 300) # the deadline of one program
if(EXO_SANITIZE)
    set(EXO_UNIT_SECONDS 900) # several times slower
endif()

function(exo_unit_test folder)
    file(GLOB_RECURSE tests CONFIGURE_DEPENDS src/${folder}/*_test.c)
    if(NOT EXO_VULKAN)
        list(FILTER tests EXCLUDE REGEX "${EXO_VULKAN_SOURCES}")
    endif()
    foreach(source ${tests})
        get_filename_component(stem ${source} NAME_WE)
        set(name ${folder}_${stem})
        if(source MATCHES "/src/compute/vulkan/") # as compute/cpu has tests of the same names
            set(name ${folder}_vulkan_${stem})
        endif()
        add_executable(${name} ${source})
        target_link_libraries(${name} PRIVATE exo_${folder} PkgConfig::CMOCKA)
        target_include_directories(${name} PRIVATE tests)
        target_compile_options(${name} PRIVATE ${EXO_WARNINGS})
        target_compile_definitions(${name} PRIVATE EXO_SHARED_DATA="${EXO_SHARED_DATA}"
            EXO_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
        if(source MATCHES "${EXO_VULKAN_SOURCES}")
            target_compile_definitions(${name} PRIVATE EXO_VULKAN_ICD_DIR="${EXO_VULKAN_ICD_DIR}")
            file(STRINGS ${source} on_each REGEX "EXO_VK_ON_EACH\\(")
            if(on_each)
                exo_vulkan_entries(${name} ${source})
                continue()
            endif()
        endif()
        add_test(NAME ${name} COMMAND ${name})
        set_tests_properties(${name} PROPERTIES LABELS unit TIMEOUT ${EXO_UNIT_SECONDS})
        if(EXO_SANITIZE STREQUAL "thread")
            set_property(TEST ${name} PROPERTY
                ENVIRONMENT "TSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tests/tsan.supp")
        endif()
        if(source MATCHES "${EXO_VULKAN_SOURCES}")
            set_tests_properties(${name} PROPERTIES LABELS "unit;vulkan"
                FIXTURES_REQUIRED vulkan ENVIRONMENT "${EXO_VULKAN_ENVIRONMENT}")
            if(EXO_SANITIZE MATCHES "address") # opens SwiftShader, too: see exo_vulkan_entries
                set_property(TEST ${name} APPEND PROPERTY ENVIRONMENT "ASAN_OPTIONS=detect_leaks=0")
            endif()
        endif()
    endforeach()
endfunction()

foreach(folder base compute model engine net cluster node)
    exo_unit_test(${folder})
endforeach()
# A stand-in for NVIDIA's management library, opened at run time as that one is.
add_library(exo_fake_nvml MODULE tests/nvml/fake_nvml.c)
target_compile_options(exo_fake_nvml PRIVATE ${EXO_WARNINGS})
add_dependencies(node_sensors_nvml_test exo_fake_nvml)
target_compile_definitions(node_sensors_nvml_test PRIVATE
    EXO_FAKE_NVML_LIBRARY="$<TARGET_FILE:exo_fake_nvml>")
if(EXO_VULKAN)
    add_library(exo_crash_icd MODULE tests/vulkan/crash_icd.c)
    target_include_directories(exo_crash_icd SYSTEM PRIVATE ${EXO_VULKAN_HEADERS})
    add_dependencies(compute_vulkan_probe_test exo_crash_icd)
    target_compile_definitions(compute_vulkan_probe_test PRIVATE
        EXO_CRASH_ICD="$<TARGET_FILE:exo_crash_icd>")
    # All kernels as pipelines of AMD GPUs that are not there.
    add_executable(exo_vulkan_compile tests/vulkan/compile.c)
    target_link_libraries(exo_vulkan_compile PRIVATE exo_compute)
    target_compile_options(exo_vulkan_compile PRIVATE ${EXO_WARNINGS})
    add_test(NAME vulkan_compile COMMAND ${CMAKE_SOURCE_DIR}/tests/vulkan/compile.sh
        $<TARGET_FILE:exo_vulkan_compile>)
    set_tests_properties(vulkan_compile PROPERTIES LABELS vulkan TIMEOUT 300 SKIP_RETURN_CODE 77)
    # A layer that spoils a good driver (tests/vulkan/faulty_layer.c), and the description by which
    # the loader finds it.
    add_library(exo_faulty_layer MODULE tests/vulkan/faulty_layer.c)
    target_include_directories(exo_faulty_layer SYSTEM PRIVATE ${EXO_VULKAN_HEADERS})
    target_compile_options(exo_faulty_layer PRIVATE ${EXO_WARNINGS})
    file(GENERATE OUTPUT ${CMAKE_BINARY_DIR}/vulkan_layer/faulty.json CONTENT
        "{\"file_format_version\": \"1.2.0\", \"layer\": {\"name\": \"VK_LAYER_EXO_faulty\", \
\"type\": \"GLOBAL\", \"library_path\": \"$<TARGET_FILE:exo_faulty_layer>\", \
\"api_version\": \"1.3.0\", \"implementation_version\": \"1\", \
\"description\": \"tests of exo only\"}}\n")
endif()
include(cmake/emulate.cmake) # kernels for instructions that this machine may lack
if(EXO_DAEMON)
    exo_unit_test(api)
endif()
include(cmake/fuzz.cmake) # the corpora, replayed
# What no compiler here compiles.
add_test(NAME apple_parse COMMAND ${CMAKE_SOURCE_DIR}/tests/apple/parse.sh)
set_tests_properties(apple_parse PROPERTIES LABELS unit TIMEOUT 60 SKIP_RETURN_CODE 77)

# Real processes, driven by pytest; they run the release binary unless EXO names another.
foreach(suite cli api reasoning cluster election architectures hosts cross_device_discovery clients slow tiny pull safetensors convert mutants telemetry membership downloads own_api top partition log_faults doctor liars pack_cache threads)
    add_test(NAME integration_${suite}
        COMMAND /usr/bin/python3 -m pytest -q -rs -p no:cacheprovider tests/integration/test_${suite}.py
        WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    set_tests_properties(integration_${suite} PROPERTIES LABELS integration TIMEOUT 600)
endforeach()
set_tests_properties(integration_pull PROPERTIES COST 250) # two minutes, nearly all of them waiting
# Where answers have deadlines of seconds, nothing else may run.
foreach(suite cli api reasoning cluster election hosts cross_device_discovery clients slow tiny partition threads)
    set_tests_properties(integration_${suite} PROPERTIES RUN_SERIAL TRUE)
endforeach()

# Memory of Vulkan devices through C, JNI and Python, out of this build.
if(EXO_VULKAN)
    add_test(NAME integration_vulkan_memory
        COMMAND /usr/bin/python3 -m pytest -q -rs -p no:cacheprovider
            tests/integration/test_vulkan_memory.py
        WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    set_tests_properties(integration_vulkan_memory PROPERTIES LABELS "integration;vulkan" TIMEOUT 900
        RESOURCE_LOCK vulkan FIXTURES_REQUIRED vulkan
        ENVIRONMENT "EXO_BUILD_DIR=${CMAKE_BINARY_DIR};${EXO_VULKAN_ENVIRONMENT}")
    # CPU and Vulkan nodes in one pipeline.
    add_executable(exo_vulkan_logits tests/vulkan/logits.c)
    target_link_libraries(exo_vulkan_logits PRIVATE exo_engine)
    target_compile_options(exo_vulkan_logits PRIVATE ${EXO_WARNINGS})
    add_test(NAME integration_vulkan_pipeline
        COMMAND /usr/bin/python3 -m pytest -q -rs -p no:cacheprovider
            tests/integration/test_vulkan_pipeline.py
        WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    set_tests_properties(integration_vulkan_pipeline PROPERTIES LABELS "integration;vulkan" COST 150
        TIMEOUT 1800 RESOURCE_LOCK vulkan FIXTURES_REQUIRED vulkan
        ENVIRONMENT "EXO_VULKAN_TEST_DIR=${CMAKE_BINARY_DIR};${EXO_VULKAN_ENVIRONMENT}")
    # Drivers that fail in every way, and what is left of the answer.
    add_test(NAME integration_vulkan_faults
        COMMAND /usr/bin/python3 -m pytest -q -rs -p no:cacheprovider
            tests/integration/test_vulkan_faults.py
        WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    set_tests_properties(integration_vulkan_faults PROPERTIES LABELS "integration;vulkan" TIMEOUT 1800
        RESOURCE_LOCK vulkan FIXTURES_REQUIRED vulkan
        ENVIRONMENT "EXO_VULKAN_TEST_DIR=${CMAKE_BINARY_DIR};${EXO_VULKAN_ENVIRONMENT}")
    # The committed kernels are what their sources compile to.
    add_test(NAME spirv COMMAND tests/spirv.sh WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    set_tests_properties(spirv PROPERTIES LABELS "unit;vulkan" TIMEOUT 900 SKIP_RETURN_CODE 77)
endif()

# Many texts and templates in one process, for the differential tests.
add_executable(exo_batch tests/oracle/batch.c)
target_link_libraries(exo_batch PRIVATE exo_model)
target_compile_options(exo_batch PRIVATE ${EXO_WARNINGS})

# The forward pass against llama.cpp's, from npm; where that cannot be had, pytest exits with 5.
# One of these at a time: the first fetches the package for all.
add_test(NAME oracle
    COMMAND /usr/bin/python3 -m pytest -q -rs -p no:cacheprovider tests/oracle/test_oracle.py
    WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
set_tests_properties(oracle PROPERTIES LABELS oracle TIMEOUT 1200
    SKIP_RETURN_CODE 5)

# The same on models of random shapes; more of them: tests/oracle/random_shapes.py --count 1000.
add_test(NAME oracle_random
    COMMAND /usr/bin/python3 tests/oracle/random_shapes.py --seed 1 --count 24
    WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
set_tests_properties(oracle_random PROPERTIES LABELS oracle TIMEOUT 300 SKIP_RETURN_CODE 5)

# What exo convert writes, in llama.cpp.
add_test(NAME oracle_convert
    COMMAND /usr/bin/python3 -m pytest -q -rs -p no:cacheprovider tests/oracle/test_convert.py
    WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
set_tests_properties(oracle_convert PROPERTIES LABELS oracle TIMEOUT 600 SKIP_RETURN_CODE 5)

# Weight blocks against ggml's own functions, through a filter that decodes and quantises.
add_executable(oracle_weights tests/oracle/weights.c)
target_link_libraries(oracle_weights PRIVATE exo_compute)
target_compile_options(oracle_weights PRIVATE ${EXO_WARNINGS})
add_test(NAME oracle_weights
    COMMAND /usr/bin/python3 -m pytest -q -rs -p no:cacheprovider tests/oracle/test_weights.py
    WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
set_tests_properties(oracle_weights PROPERTIES LABELS oracle TIMEOUT 600 SKIP_RETURN_CODE 5 ENVIRONMENT "EXO_ORACLE_WEIGHTS=$<TARGET_FILE:oracle_weights>")

foreach(suite tokenizers templates hf_tokenizers)
    add_test(NAME oracle_${suite}
        COMMAND /usr/bin/python3 -m pytest -q -rs -p no:cacheprovider
            tests/oracle/test_${suite}.py
        WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    set_tests_properties(oracle_${suite} PROPERTIES LABELS oracle TIMEOUT 900 SKIP_RETURN_CODE 5 ENVIRONMENT "EXO_BATCH=$<TARGET_FILE:exo_batch>")
endforeach()

# The same bits on ARM: kernels built by the cross compiler, run under qemu.
add_test(NAME neon_bits COMMAND tests/neon/run.sh ${CMAKE_BINARY_DIR}/neon
    WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
set_tests_properties(neon_bits PROPERTIES LABELS neon TIMEOUT 900 PROCESSORS 2 SKIP_RETURN_CODE 77)

# All of exo on ARM, emulated: whole models and a node beside one of this machine.
add_test(NAME neon_whole COMMAND tests/neon/whole.sh WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
set_tests_properties(neon_whole PROPERTIES LABELS neon TIMEOUT 900 RUN_SERIAL TRUE
    SKIP_RETURN_CODE 77)

# Simulated clusters on virtual time (tests/sim): every rule holds, and each planted bug is found.
foreach(sim raft cluster)
    file(GLOB sim_sources CONFIGURE_DEPENDS tests/sim/${sim}_*.c)
    add_executable(${sim}_sim ${sim_sources} tests/sim/sim.c tests/sim/options.c)
    target_include_directories(${sim}_sim PRIVATE tests)
    target_link_libraries(${sim}_sim PRIVATE exo_cluster exo_engine)
    target_compile_options(${sim}_sim PRIVATE ${EXO_WARNINGS})
endforeach()
add_test(NAME sim_seeds COMMAND raft_sim --seeds 1000)
add_test(NAME sim_planted_bugs COMMAND raft_sim --plants --seeds 10000)
add_test(NAME sim_clusters COMMAND cluster_sim --seeds 200)
add_test(NAME sim_clusters_planted_bugs COMMAND tests/sim/plants.sh $<TARGET_FILE:cluster_sim>
    WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
add_test(NAME sim_regressions COMMAND tests/sim/regressions.sh $<TARGET_FILE:cluster_sim>
    WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
add_test(NAME sim_options COMMAND tests/sim/options.sh $<TARGET_FILE:cluster_sim>
    $<TARGET_FILE:raft_sim> WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
add_test(NAME sim_election COMMAND tests/sim/election.sh WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
set_tests_properties(sim_seeds sim_planted_bugs sim_clusters sim_clusters_planted_bugs
    sim_regressions sim_options sim_election PROPERTIES LABELS sim TIMEOUT 600
    SKIP_RETURN_CODE 77)
