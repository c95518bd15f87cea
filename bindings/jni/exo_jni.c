/* exo_jni.c - class com.exo.gpu.VulkanGpu: Vulkan memory for JVM and Android.
 *
 * One context for the process, VULKAN_CTX, made by initializeVulkan and ended by shutdown; calls
 * hold it shared, those two alone.  A failure is a Java exception with exo's message; nothing is
 * returned then.  Bytes cross in pieces by Get/SetByteArrayRegion, or without a copy of ours from
 * direct ByteBuffers; no array is pinned while a device works.  Thread: ANY. */
#define _POSIX_C_SOURCE 200809L
#include <exo/gpu.h>

#include <jni.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define CLASS_NAME   "com/exo/gpu/VulkanGpu"
#define PIECE_BYTES  (256 * 1024)
#define NATIVE(name) Java_com_exo_gpu_VulkanGpu_##name

static exo_gpu *VULKAN_CTX;
static pthread_rwlock_t context_lock = PTHREAD_RWLOCK_INITIALIZER;

/* ---- failures ---- */

static const char *exception_for(exo_status st) {
    switch (st) {
    case EXO_EINVAL:
    case EXO_ENOTFOUND: return "java/lang/IllegalArgumentException";
    case EXO_ENOMEM: return "java/lang/OutOfMemoryError";
    case EXO_EUNSUPPORTED: return "java/lang/UnsupportedOperationException";
    default: return "java/lang/RuntimeException";
    }
}

static void throw_new(JNIEnv *env, const char *class_name, const char *message) {
    if ((*env)->ExceptionCheck(env)) return; /* the first one tells */
    jclass c = (*env)->FindClass(env, class_name);
    if (c == NULL) return; /* an exception of its own is pending */
    (void)(*env)->ThrowNew(env, c, message);
    (*env)->DeleteLocalRef(env, c);
}

static void throw_status(JNIEnv *env, exo_status st, const exo_error *err) {
    if (st != EXO_OK) throw_new(env, exception_for(st), err->message);
}

/* The context, held until release(); NULL with an exception pending when there is none. */
static exo_gpu *acquire(JNIEnv *env) {
    (void)pthread_rwlock_rdlock(&context_lock);
    if (VULKAN_CTX != NULL) return VULKAN_CTX;
    (void)pthread_rwlock_unlock(&context_lock);
    throw_new(env, "java/lang/IllegalStateException", "call initializeVulkan first");
    return NULL;
}

static void release(void) { (void)pthread_rwlock_unlock(&context_lock); }

static bool check_not_negative(JNIEnv *env, jlong a, jlong b) {
    if (a >= 0 && b >= 0) return true;
    throw_new(env, "java/lang/IllegalArgumentException", "a negative size or offset");
    return false;
}

/* ---- context and devices ---- */

/* Fails with an exception when there is no loader or driver.  Calling it again does nothing. */
JNIEXPORT jboolean JNICALL NATIVE(initializeVulkan)(JNIEnv *env, jclass c);
JNIEXPORT jboolean JNICALL NATIVE(initializeVulkan)(JNIEnv *env, jclass c) {
    (void)c;
    exo_error err = {0};
    exo_status st = EXO_OK;
    (void)pthread_rwlock_wrlock(&context_lock);
    if (VULKAN_CTX == NULL) st = exo_gpu_create(&VULKAN_CTX, &err);
    release();
    if (st == EXO_ENOTFOUND) st = EXO_EUNSUPPORTED; /* no argument was wrong */
    throw_status(env, st, &err);
    return st == EXO_OK;
}

/* Frees all memory; handles of this context are void. */
JNIEXPORT void JNICALL NATIVE(shutdown)(JNIEnv *env, jclass c);
JNIEXPORT void JNICALL NATIVE(shutdown)(JNIEnv *env, jclass c) {
    (void)env;
    (void)c;
    (void)pthread_rwlock_wrlock(&context_lock);
    exo_gpu_destroy(VULKAN_CTX);
    VULKAN_CTX = NULL;
    release();
}

JNIEXPORT jstring JNICALL NATIVE(enumerateDevices)(JNIEnv *env, jclass c);
JNIEXPORT jstring JNICALL NATIVE(enumerateDevices)(JNIEnv *env, jclass c) {
    (void)c;
    exo_error err = {0};
    char *json = NULL;
    exo_gpu *g = acquire(env);
    if (g == NULL) return NULL;
    exo_status st = exo_gpu_devices_json(g, &json, &err);
    release();
    throw_status(env, st, &err);
    jstring s = st == EXO_OK ? (*env)->NewStringUTF(env, json) : NULL;
    exo_gpu_free_string(json);
    return s;
}

static bool info_of(JNIEnv *env, jint device, exo_gpu_info *out) {
    exo_error err = {0};
    exo_gpu *g = acquire(env);
    if (g == NULL) return false;
    exo_status st = exo_gpu_get_info(g, (uint32_t)device, out, &err);
    release();
    throw_status(env, st, &err);
    return st == EXO_OK;
}

JNIEXPORT jstring JNICALL NATIVE(getDeviceName)(JNIEnv *env, jclass c, jint device);
JNIEXPORT jstring JNICALL NATIVE(getDeviceName)(JNIEnv *env, jclass c, jint device) {
    (void)c;
    exo_gpu_info info;
    return info_of(env, device, &info) ? (*env)->NewStringUTF(env, info.name) : NULL;
}

JNIEXPORT jlong JNICALL NATIVE(getDeviceMemory)(JNIEnv *env, jclass c, jint device);
JNIEXPORT jlong JNICALL NATIVE(getDeviceMemory)(JNIEnv *env, jclass c, jint device) {
    (void)c;
    exo_gpu_info info;
    return info_of(env, device, &info) ? (jlong)info.memory_bytes : 0;
}

/* 0 = no driver extension tells. */
JNIEXPORT jint JNICALL NATIVE(getComputeUnits)(JNIEnv *env, jclass c, jint device);
JNIEXPORT jint JNICALL NATIVE(getComputeUnits)(JNIEnv *env, jclass c, jint device) {
    (void)c;
    exo_gpu_info info;
    return info_of(env, device, &info) ? (jint)info.compute_units : 0;
}

/* ---- memory ---- */

JNIEXPORT jlong JNICALL NATIVE(allocateMemory)(JNIEnv *env, jclass c, jint device, jlong bytes);
JNIEXPORT jlong JNICALL NATIVE(allocateMemory)(JNIEnv *env, jclass c, jint device, jlong bytes) {
    (void)c;
    exo_error err = {0};
    exo_gpu_handle handle = 0;
    if (!check_not_negative(env, bytes, 0)) return 0;
    exo_gpu *g = acquire(env);
    if (g == NULL) return 0;
    exo_status st = exo_gpu_allocate(g, (uint32_t)device, (uint64_t)bytes, &handle, &err);
    release();
    throw_status(env, st, &err);
    return (jlong)handle;
}

JNIEXPORT void JNICALL NATIVE(freeMemory)(JNIEnv *env, jclass c, jlong handle);
JNIEXPORT void JNICALL NATIVE(freeMemory)(JNIEnv *env, jclass c, jlong handle) {
    (void)c;
    exo_error err = {0};
    exo_gpu *g = acquire(env);
    if (g == NULL) return;
    exo_status st = exo_gpu_free(g, (uint64_t)handle, &err);
    release();
    throw_status(env, st, &err);
}

/* ---- copies ---- */

static exo_status check_range(exo_gpu *g, exo_gpu_handle handle, jlong offset, jint bytes,
                              exo_error *err) {
    exo_gpu_allocation a;
    exo_status st = exo_gpu_get_allocation(g, handle, &a, err);
    if (st != EXO_OK) return st;
    if ((uint64_t)offset <= a.size && (uint64_t)bytes <= a.size - (uint64_t)offset) return EXO_OK;
    return exo_error_set(err, EXO_EINVAL, "bytes %lld + %d of an allocation of %llu",
                         (long long)offset, (int)bytes, (unsigned long long)a.size);
}

JNIEXPORT void JNICALL NATIVE(copyToDevice)(JNIEnv *env, jclass c, jlong handle, jlong offset,
                                            jbyteArray data);
JNIEXPORT void JNICALL NATIVE(copyToDevice)(JNIEnv *env, jclass c, jlong handle, jlong offset,
                                            jbyteArray data) {
    (void)c;
    exo_error err = {0};
    if (data == NULL) {
        throw_new(env, "java/lang/NullPointerException", "data");
        return;
    }
    if (!check_not_negative(env, offset, 0)) return;
    jsize n = (*env)->GetArrayLength(env, data);
    exo_gpu *g = acquire(env);
    if (g == NULL) return;
    exo_status st = check_range(g, (uint64_t)handle, offset, n, &err);
    jbyte *piece = st == EXO_OK ? malloc(PIECE_BYTES) : NULL;
    if (st == EXO_OK && piece == NULL) st = exo_error_set(&err, EXO_ENOMEM, "no memory to copy");
    for (jsize at = 0; at < n && st == EXO_OK; at += PIECE_BYTES) {
        jsize m = n - at < PIECE_BYTES ? n - at : PIECE_BYTES;
        (*env)->GetByteArrayRegion(env, data, at, m, piece);
        st = exo_gpu_copy_to_device(g, (uint64_t)handle, (uint64_t)offset + (uint64_t)at, piece,
                                    (uint64_t)m, &err);
    }
    release();
    free(piece);
    throw_status(env, st, &err);
}

/* The bytes as an array, or NULL with err; the range is checked before anything is allocated. */
static jbyteArray read_array(JNIEnv *env, exo_gpu *g, exo_gpu_handle handle, jlong offset,
                             jint size, exo_error *err) {
    err->status = check_range(g, handle, offset, size, err);
    if (err->status != EXO_OK) return NULL;
    jbyte *piece = malloc(PIECE_BYTES);
    jbyteArray out = piece != NULL ? (*env)->NewByteArray(env, size) : NULL;
    if (out == NULL) exo_error_set(err, EXO_ENOMEM, "no memory for %d bytes", (int)size);
    for (jsize at = 0; at < size && err->status == EXO_OK; at += PIECE_BYTES) {
        jsize m = size - at < PIECE_BYTES ? size - at : PIECE_BYTES;
        err->status = exo_gpu_copy_from_device(g, piece, handle, (uint64_t)offset + (uint64_t)at,
                                               (uint64_t)m, err);
        if (err->status == EXO_OK) (*env)->SetByteArrayRegion(env, out, at, m, piece);
    }
    free(piece);
    return out;
}

JNIEXPORT jbyteArray JNICALL NATIVE(copyFromDevice)(JNIEnv *env, jclass c, jlong handle,
                                                    jlong offset, jint size);
JNIEXPORT jbyteArray JNICALL NATIVE(copyFromDevice)(JNIEnv *env, jclass c, jlong handle,
                                                    jlong offset, jint size) {
    (void)c;
    exo_error err = {0};
    if (!check_not_negative(env, offset, size)) return NULL;
    exo_gpu *g = acquire(env);
    if (g == NULL) return NULL;
    jbyteArray out = read_array(env, g, (uint64_t)handle, offset, size, &err);
    release();
    throw_status(env, err.status, &err);
    return err.status == EXO_OK ? out : NULL;
}

/* All of a direct buffer, whatever its position: to the device, or from it. */
static void copy_buffer(JNIEnv *env, jlong handle, jlong offset, jobject buffer, bool to_device) {
    exo_error err = {0};
    void *bytes = buffer != NULL ? (*env)->GetDirectBufferAddress(env, buffer) : NULL;
    jlong n = bytes != NULL ? (*env)->GetDirectBufferCapacity(env, buffer) : -1;
    if (n < 0) {
        throw_new(env, "java/lang/IllegalArgumentException", "not a direct ByteBuffer");
        return;
    }
    if (!check_not_negative(env, offset, 0)) return;
    exo_gpu *g = acquire(env);
    if (g == NULL) return;
    exo_status st = to_device ? exo_gpu_copy_to_device(g, (uint64_t)handle, (uint64_t)offset, bytes,
                                                       (uint64_t)n, &err)
                              : exo_gpu_copy_from_device(g, bytes, (uint64_t)handle,
                                                         (uint64_t)offset, (uint64_t)n, &err);
    release();
    throw_status(env, st, &err);
}

static void JNICALL buffer_to_device(JNIEnv *env, jclass c, jlong handle, jlong offset,
                                     jobject buffer) {
    (void)c;
    copy_buffer(env, handle, offset, buffer, true);
}

/* A mapped file may be a direct buffer that must not be written. */
static bool is_read_only(JNIEnv *env, jobject buffer) {
    jclass c = (*env)->GetObjectClass(env, buffer);
    jmethodID method = (*env)->GetMethodID(env, c, "isReadOnly", "()Z");
    bool read_only = method == NULL || (*env)->CallBooleanMethod(env, buffer, method) != JNI_FALSE;
    (*env)->DeleteLocalRef(env, c);
    return read_only || (*env)->ExceptionCheck(env);
}

static void JNICALL buffer_from_device(JNIEnv *env, jclass c, jlong handle, jlong offset,
                                       jobject buffer) {
    (void)c;
    if (buffer != NULL && is_read_only(env, buffer)) {
        throw_new(env, "java/lang/IllegalArgumentException", "a read-only ByteBuffer");
        return;
    }
    copy_buffer(env, handle, offset, buffer, false);
}

static void JNICALL device_to_device(JNIEnv *env, jclass c, jlong dst, jlong dst_offset, jlong src,
                                     jlong src_offset, jlong bytes) {
    (void)c;
    exo_error err = {0};
    if (!check_not_negative(env, dst_offset, src_offset)) return;
    if (!check_not_negative(env, bytes, 0)) return;
    exo_gpu *g = acquire(env);
    if (g == NULL) return;
    exo_gpu_copy copy = {.dst = (uint64_t)dst,
                         .src = (uint64_t)src,
                         .dst_offset = (uint64_t)dst_offset,
                         .src_offset = (uint64_t)src_offset,
                         .bytes = (uint64_t)bytes};
    exo_status st = exo_gpu_copy_device_to_device(g, &copy, &err);
    release();
    throw_status(env, st, &err);
}

/* ---- registration ---- */

typedef void (*native_function)(void);

/* JNI wants every function as void *; the detour over a copy of the pointer's bits is what C
 * allows. */
static void *as_pointer(native_function f) {
    void *p;
    memcpy(&p, &f, sizeof p);
    return p;
}

JNIEXPORT jint JNICALL JNI_OnLoad(JavaVM *vm, void *reserved) {
    (void)reserved;
    static const struct {
        const char *name, *signature;
        native_function f;
    } natives[] = {
        {"initializeVulkan", "()Z", (native_function)NATIVE(initializeVulkan)},
        {"enumerateDevices", "()Ljava/lang/String;", (native_function)NATIVE(enumerateDevices)},
        {"getDeviceName", "(I)Ljava/lang/String;", (native_function)NATIVE(getDeviceName)},
        {"getDeviceMemory", "(I)J", (native_function)NATIVE(getDeviceMemory)},
        {"getComputeUnits", "(I)I", (native_function)NATIVE(getComputeUnits)},
        {"allocateMemory", "(IJ)J", (native_function)NATIVE(allocateMemory)},
        {"freeMemory", "(J)V", (native_function)NATIVE(freeMemory)},
        {"copyToDevice", "(JJ[B)V", (native_function)NATIVE(copyToDevice)},
        {"copyToDevice", "(JJLjava/nio/ByteBuffer;)V", (native_function)buffer_to_device},
        {"copyFromDevice", "(JJI)[B", (native_function)NATIVE(copyFromDevice)},
        {"copyFromDevice", "(JJLjava/nio/ByteBuffer;)V", (native_function)buffer_from_device},
        {"copyDeviceToDevice", "(JJJJJ)V", (native_function)device_to_device},
        {"shutdown", "()V", (native_function)NATIVE(shutdown)},
    };
    enum { N = sizeof natives / sizeof natives[0] };
    JNINativeMethod methods[N];
    void *env_pointer = NULL;
    if ((*vm)->GetEnv(vm, &env_pointer, JNI_VERSION_1_6) != JNI_OK) return JNI_ERR;
    JNIEnv *env = env_pointer;
    for (size_t i = 0; i < N; i++) {
        char *name, *signature; /* JNI's structure lacks const on a JDK */
        memcpy(&name, &natives[i].name, sizeof name);
        memcpy(&signature, &natives[i].signature, sizeof signature);
        methods[i].name = name;
        methods[i].signature = signature;
        methods[i].fnPtr = as_pointer(natives[i].f);
    }
    jclass c = (*env)->FindClass(env, CLASS_NAME);
    if (c == NULL) return JNI_ERR;
    jint rc = (*env)->RegisterNatives(env, c, methods, N);
    (*env)->DeleteLocalRef(env, c);
    return rc == JNI_OK ? JNI_VERSION_1_6 : JNI_ERR;
}

JNIEXPORT void JNICALL JNI_OnUnload(JavaVM *vm, void *reserved) {
    (void)vm;
    (void)reserved;
    exo_gpu_destroy(VULKAN_CTX);
    VULKAN_CTX = NULL;
}
