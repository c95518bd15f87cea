# Programs that only measure: built on demand, `cmake --build build --target bench_kernels`.
foreach(name attention kernels peaks)
    add_executable(bench_${name} EXCLUDE_FROM_ALL bench/${name}.c)
    target_include_directories(bench_${name} PRIVATE src)
    target_link_libraries(bench_${name} PRIVATE exo_compute)
    target_compile_options(bench_${name} PRIVATE ${EXO_WARNINGS})
endforeach()
