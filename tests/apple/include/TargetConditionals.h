/* TargetConditionals.h - parse.sh says which system it is. */
#ifndef TARGET_OS_OSX
#error "TARGET_OS_OSX is given on the command line"
#endif
