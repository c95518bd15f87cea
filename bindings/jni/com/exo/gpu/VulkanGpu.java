package com.exo.gpu;

import java.nio.ByteBuffer;

/**
 * Vulkan memory of this machine: list devices, allocate, copy, free.
 *
 * <p>Devices are numbered as in {@code vulkan:N}. Memory is named by handles; a wrong one, or a
 * range beyond an allocation, is an {@link IllegalArgumentException}, lack of memory an {@link
 * OutOfMemoryError}, no Vulkan here an {@link UnsupportedOperationException}. All methods may be
 * called from any thread.
 */
public final class VulkanGpu {
    static {
        System.loadLibrary("exo_jni");
    }

    private VulkanGpu() {}

    /** Loads Vulkan and tries its devices; needed before everything else. Always true. */
    public static native boolean initializeVulkan();

    /** {@code {"devices":[{"device_id":"vulkan:0","name":...}],"count":1}}. */
    public static native String enumerateDevices();

    public static native String getDeviceName(int device);

    /** Bytes. */
    public static native long getDeviceMemory(int device);

    /** 0 when no driver extension tells. */
    public static native int getComputeUnits(int device);

    /** Returns a handle, never 0. Contents are undefined. */
    public static native long allocateMemory(int device, long bytes);

    public static native void freeMemory(long handle);

    public static native void copyToDevice(long handle, long offset, byte[] data);

    /** All of a direct buffer. */
    public static native void copyToDevice(long handle, long offset, ByteBuffer direct);

    public static native byte[] copyFromDevice(long handle, long offset, int size);

    /** Fills all of a direct buffer. */
    public static native void copyFromDevice(long handle, long offset, ByteBuffer direct);

    public static native void copyDeviceToDevice(
            long dst, long dstOffset, long src, long srcOffset, long bytes);

    /** Frees everything; initializeVulkan may be called again. */
    public static native void shutdown();

    /** True when initializeVulkan succeeds here. */
    public static boolean isVulkanSupported() {
        try {
            return initializeVulkan();
        } catch (UnsupportedOperationException | UnsatisfiedLinkError e) {
            return false;
        }
    }
}
