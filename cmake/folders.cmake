# exo_folder(NAME LINK libs...): src/NAME/**/*.c without tests becomes the static library exo_NAME.
# Files named *_avx2.c, *_avxvnni.c, *_avx512.c, *_neon.c are kernels for one instruction set (exo_kernels).
function(exo_folder name)
    cmake_parse_arguments(F "" "" "LINK" ${ARGN})
    file(GLOB_RECURSE sources CONFIGURE_DEPENDS src/${name}/*.c)
    list(FILTER sources EXCLUDE REGEX "_test\\.c$|_(avx2|avxvnni|avx512|neon)\\.c$")
    if(NOT EXO_VULKAN)
        list(FILTER sources EXCLUDE REGEX "${EXO_VULKAN_SOURCES}")
    endif()
    if(NOT EXO_DAEMON) # what fetches models needs libcurl
        list(FILTER sources EXCLUDE REGEX "/src/node/(download|pull)[a-z_]*\\.c$")
    endif()
    if(EXO_DNSSD)
        list(FILTER sources EXCLUDE REGEX "/src/net/dnssd_off\\.c$")
    else()
        list(FILTER sources EXCLUDE REGEX "/src/net/dnssd\\.c$")
    endif()
    add_library(exo_${name} STATIC ${sources})
    target_include_directories(exo_${name} PUBLIC src include ${CMAKE_BINARY_DIR}/generated)
    target_link_libraries(exo_${name} PUBLIC ${F_LINK})
    target_compile_options(exo_${name} PRIVATE ${EXO_WARNINGS})
    if(name IN_LIST EXO_CONVERSION_FOLDERS)
        target_compile_options(exo_${name} PRIVATE -Wconversion)
    endif()
endfunction()

# The CPU kernels: each instruction set is a file of its own with its own flags, chosen at run time.
function(exo_kernels target)
    # Unrolled vector tiles take minutes to compile under a sanitizer; the same code paths are
    # sanitized through the plain reference, whose results they must equal bit for bit.
    if(EXO_SANITIZE)
        set(plain "-fno-sanitize=all")
    endif()
    if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
        file(GLOB avx2 CONFIGURE_DEPENDS src/compute/cpu/*_avx2.c)
        file(GLOB avxvnni CONFIGURE_DEPENDS src/compute/cpu/*_avxvnni.c)
        file(GLOB avx512 CONFIGURE_DEPENDS src/compute/cpu/*_avx512.c)
        set_source_files_properties(${avx2} PROPERTIES COMPILE_OPTIONS "-O2;-mavx2;-mfma;-mf16c;${plain}")
        set_source_files_properties(${avxvnni} PROPERTIES COMPILE_OPTIONS
            "-O2;-mavx2;-mfma;-mf16c;-mavxvnni;${plain}")
        set_source_files_properties(${avx512} PROPERTIES COMPILE_OPTIONS
            "-O2;-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512vnni;-mfma;-mf16c;${plain}")
        target_sources(${target} PRIVATE ${avx2} ${avxvnni} ${avx512})
    elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
        file(GLOB neon CONFIGURE_DEPENDS src/compute/cpu/*_neon.c)
        file(GLOB dotprod CONFIGURE_DEPENDS src/compute/cpu/*_dotprod_neon.c)
        file(GLOB i8mm CONFIGURE_DEPENDS src/compute/cpu/*_i8mm_neon.c)
        set_source_files_properties(${neon} PROPERTIES COMPILE_OPTIONS "-O2;-march=armv8-a;${plain}")
        set_source_files_properties(${dotprod} PROPERTIES COMPILE_OPTIONS
            "-O2;-march=armv8.2-a+dotprod;${plain}")
        set_source_files_properties(${i8mm} PROPERTIES COMPILE_OPTIONS
            "-O2;-march=armv8.2-a+dotprod+i8mm;${plain}")
        target_sources(${target} PRIVATE ${neon})
    endif()
    # The plain C references must round as the vector files do: every fused step is an explicit fmaf,
    # which is one instruction where the machine has it and an exact library call where not.
endfunction()

# Embeds the demo model through the assembler's .incbin.
function(exo_embed_tiny target)
    set(EXO_TINY_PATH ${CMAKE_SOURCE_DIR}/models/exo-tiny.gguf)
    if(NOT EXISTS ${EXO_TINY_PATH})
        message(FATAL_ERROR "models/exo-tiny.gguf is missing: make it with tools/tiny, or configure "
                            "with -DEXO_EMBED_TINY=OFF")
    endif()
    configure_file(cmake/tiny.S.in ${CMAKE_BINARY_DIR}/generated/tiny.S @ONLY)
    set_source_files_properties(${CMAKE_BINARY_DIR}/generated/tiny.S PROPERTIES
        OBJECT_DEPENDS ${EXO_TINY_PATH})
    target_sources(${target} PRIVATE ${CMAKE_BINARY_DIR}/generated/tiny.S)
    target_compile_definitions(${target} PRIVATE EXO_EMBED_TINY)
endfunction()
