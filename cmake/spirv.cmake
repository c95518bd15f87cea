# exo_spirv(TARGET): puts the committed kernels, src/compute/kernels/spv/NAME.spv, into TARGET between
# the symbols exo_spirv_NAME and exo_spirv_NAME_end, through the assembler's .incbin.
function(exo_spirv target)
    file(GLOB kernels CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/compute/kernels/spv/*.spv)
    set(EXO_SPIRV_FILES "")
    foreach(file ${kernels})
        get_filename_component(name ${file} NAME_WE)
        string(APPEND EXO_SPIRV_FILES "KERNEL ${name}, \"${file}\"\n")
    endforeach()
    configure_file(${CMAKE_SOURCE_DIR}/cmake/spirv.S.in ${CMAKE_BINARY_DIR}/generated/spirv.S @ONLY)
    set_source_files_properties(${CMAKE_BINARY_DIR}/generated/spirv.S PROPERTIES
        OBJECT_DEPENDS "${kernels}")
    target_sources(${target} PRIVATE ${CMAKE_BINARY_DIR}/generated/spirv.S)
endfunction()
