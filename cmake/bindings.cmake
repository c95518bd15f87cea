# libexo: the core as a shared library (what Python loads), and the JNI library for JVM and Android.
# Both export only what is marked EXO_API, or JNI's own entry points.
set(EXO_CORE_OBJECTS $<TARGET_OBJECTS:exo_base> $<TARGET_OBJECTS:exo_compute>)
set(EXO_CORE_LIBRARIES Threads::Threads PkgConfig::JANSSON PkgConfig::OPENSSL m ${CMAKE_DL_LIBS})

add_library(exo_shared SHARED ${EXO_CORE_OBJECTS} $<TARGET_OBJECTS:exo_model>
            $<TARGET_OBJECTS:exo_engine>)
set_target_properties(exo_shared PROPERTIES OUTPUT_NAME exo LINKER_LANGUAGE C)
target_link_libraries(exo_shared PRIVATE ${EXO_CORE_LIBRARIES} PkgConfig::PCRE2
                      PkgConfig::UTF8PROC)

find_program(EXO_JAVAC javac)
file(REAL_PATH "${EXO_JAVAC}" javac)
get_filename_component(jdk "${javac}/../.." ABSOLUTE)
find_path(EXO_JNI_HEADERS jni.h HINTS $ENV{JAVA_HOME}/include ${jdk}/include)
if(EXO_JNI_HEADERS)
    add_library(exo_jni SHARED bindings/jni/exo_jni.c ${EXO_CORE_OBJECTS})
    target_include_directories(exo_jni SYSTEM PRIVATE ${EXO_JNI_HEADERS} ${EXO_JNI_HEADERS}/linux
                               ${EXO_JNI_HEADERS}/darwin)
    target_include_directories(exo_jni PRIVATE include src)
    target_compile_options(exo_jni PRIVATE ${EXO_WARNINGS})
    target_link_libraries(exo_jni PRIVATE ${EXO_CORE_LIBRARIES})
else()
    message(STATUS "no jni.h: the JNI library is not built (package default-jdk-headless)")
endif()
