/* CoreFoundation.h - what exo uses of it, declared from Apple's documentation. */
#ifndef EXO_TESTS_APPLE_COREFOUNDATION_H
#define EXO_TESTS_APPLE_COREFOUNDATION_H

typedef const void *CFTypeRef;
typedef const struct __CFString *CFStringRef;
typedef const struct __CFNumber *CFNumberRef;
typedef const struct __CFArray *CFArrayRef;
typedef const struct __CFDictionary *CFDictionaryRef;
typedef signed long CFIndex;
typedef unsigned long CFTypeID, CFOptionFlags;
typedef unsigned char Boolean;
typedef enum {
    kCFCompareLessThan = -1,
    kCFCompareEqualTo = 0,
    kCFCompareGreaterThan = 1
} CFComparisonResult;
enum { kCFNumberIntType = 9 };

#define CFSTR(text) ((CFStringRef)("" text ""))
CFTypeID CFGetTypeID(CFTypeRef v);
CFTypeID CFStringGetTypeID(void);
CFTypeID CFNumberGetTypeID(void);
CFComparisonResult CFStringCompare(CFStringRef a, CFStringRef b, CFOptionFlags options);
Boolean CFNumberGetValue(CFNumberRef n, CFIndex type, void *out);
CFIndex CFArrayGetCount(CFArrayRef list);
const void *CFArrayGetValueAtIndex(CFArrayRef list, CFIndex i);
const void *CFDictionaryGetValue(CFDictionaryRef d, const void *key);
void CFRelease(CFTypeRef v);

#endif
