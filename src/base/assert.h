/* assert.h - EXO_ASSERT: a bug stops debug and test builds with file and line.
 *
 * A release build does not abort inside somebody's app: there, code that can go on checks the
 * condition itself and reports EXO_EINTERNAL. */
#ifndef EXO_BASE_ASSERT_H
#define EXO_BASE_ASSERT_H

#include <stdio.h>
#include <stdlib.h>

#ifdef NDEBUG
#define EXO_ASSERT(cond) ((void)0)
#else
#define EXO_ASSERT(cond)                                                                           \
    ((cond) ? (void)0 : (fprintf(stderr, "%s:%d: bug: %s\n", __FILE__, __LINE__, #cond), abort()))
#endif

#endif
