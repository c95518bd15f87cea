import com.exo.gpu.VulkanGpu;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** The JNI library from a real JVM: what tests/integration/test_vulkan_memory.py runs. */
public final class Memory {
    private static void expect(boolean good, String what) {
        if (!good) throw new AssertionError("not so: " + what);
    }

    private static void expectThrown(Class<?> want, String says, Runnable action) {
        try {
            action.run();
        } catch (Throwable t) {
            expect(want.isInstance(t), want.getName() + " instead of " + t);
            expect(String.valueOf(t.getMessage()).contains(says), t + " lacks " + says);
            return;
        }
        throw new AssertionError("nothing was thrown where " + want.getName() + " should be");
    }

    private static byte[] pattern(int n, int salt) {
        byte[] b = new byte[n];
        for (int i = 0; i < n; i++) b[i] = (byte) (i * 7 + i / 253 + salt);
        return b;
    }

    private static void list() {
        String json = VulkanGpu.enumerateDevices();
        expect(json.contains("\"device_id\":\"vulkan:0\""), json);
        expect(!VulkanGpu.getDeviceName(0).isEmpty(), "a name");
        expect(json.contains(VulkanGpu.getDeviceName(0)), "the same name in the list");
        expect(VulkanGpu.getDeviceMemory(0) > 0, "memory");
        expect(VulkanGpu.getComputeUnits(0) >= 0, "compute units");
        System.out.println(json);
    }

    private static void copies() {
        for (int n : new int[] {1, 3, 4096, 300001, 9000001}) {
            byte[] in = pattern(n, n);
            long a = VulkanGpu.allocateMemory(0, n);
            long b = VulkanGpu.allocateMemory(0, n + 5L);
            VulkanGpu.copyToDevice(a, 0, in);
            VulkanGpu.copyDeviceToDevice(b, 5, a, 0, n);
            expect(Arrays.equals(in, VulkanGpu.copyFromDevice(b, 5, n)), "array of " + n);
            ByteBuffer direct = ByteBuffer.allocateDirect(n);
            direct.put(pattern(n, 9)).flip();
            VulkanGpu.copyToDevice(b, 1, direct);
            ByteBuffer back = ByteBuffer.allocateDirect(n);
            VulkanGpu.copyFromDevice(b, 1, back);
            expect(back.equals(direct), "direct buffer of " + n);
            VulkanGpu.freeMemory(a);
            VulkanGpu.freeMemory(b);
        }
        expect(VulkanGpu.copyFromDevice(VulkanGpu.allocateMemory(0, 1), 1, 0).length == 0, "none");
    }

    private static void badArguments() throws Exception {
        Class<?> illegal = IllegalArgumentException.class;
        long a = VulkanGpu.allocateMemory(0, 100);
        expectThrown(illegal, "vulkan:77", () -> VulkanGpu.getDeviceName(77));
        expectThrown(illegal, "vulkan:4294967295", () -> VulkanGpu.getDeviceMemory(-1));
        expectThrown(illegal, "", () -> VulkanGpu.getComputeUnits(Integer.MIN_VALUE));
        expectThrown(illegal, "", () -> VulkanGpu.allocateMemory(77, 10));
        expectThrown(illegal, "negative", () -> VulkanGpu.allocateMemory(0, -1));
        expectThrown(illegal, "0 bytes", () -> VulkanGpu.allocateMemory(0, 0));
        expectThrown(OutOfMemoryError.class, "MiB",
                () -> VulkanGpu.allocateMemory(0, Long.MAX_VALUE));
        expectThrown(illegal, "no allocation", () -> VulkanGpu.freeMemory(0));
        expectThrown(illegal, "no allocation", () -> VulkanGpu.freeMemory(-1));
        expectThrown(illegal, "no allocation", () -> VulkanGpu.freeMemory(a + 5));
        expectThrown(illegal, "", () -> VulkanGpu.copyToDevice(a, 1, new byte[100]));
        expectThrown(illegal, "", () -> VulkanGpu.copyToDevice(a, 101, new byte[0]));
        expectThrown(illegal, "negative", () -> VulkanGpu.copyToDevice(a, -1, new byte[1]));
        expectThrown(illegal, "", () -> VulkanGpu.copyToDevice(a, Long.MAX_VALUE, new byte[1]));
        expectThrown(NullPointerException.class, "", () -> VulkanGpu.copyToDevice(a, 0, (byte[]) null));
        expectThrown(illegal, "", () -> VulkanGpu.copyFromDevice(a, 0, Integer.MAX_VALUE));
        expectThrown(illegal, "negative", () -> VulkanGpu.copyFromDevice(a, 0, -1));
        expectThrown(illegal, "direct", () -> VulkanGpu.copyToDevice(a, 0, ByteBuffer.allocate(4)));
        expectThrown(illegal, "direct", () -> VulkanGpu.copyFromDevice(a, 0, ByteBuffer.allocate(4)));
        expectThrown(illegal, "direct", () -> VulkanGpu.copyFromDevice(a, 0, (ByteBuffer) null));
        expectThrown(illegal, "", () -> VulkanGpu.copyToDevice(a, 99, ByteBuffer.allocateDirect(2)));
        Path file = Files.createTempFile("exo", ".bin");
        Files.write(file, new byte[64]);
        try (FileChannel channel = FileChannel.open(file)) {
            ByteBuffer mapped = channel.map(FileChannel.MapMode.READ_ONLY, 0, 64);
            expectThrown(illegal, "read-only", () -> VulkanGpu.copyFromDevice(a, 0, mapped));
            VulkanGpu.copyToDevice(a, 0, mapped);
        } finally {
            Files.delete(file);
        }
        expectThrown(illegal, "", () -> VulkanGpu.copyDeviceToDevice(a, 0, a, 0, 101));
        expectThrown(illegal, "negative", () -> VulkanGpu.copyDeviceToDevice(a, 0, a, 0, -1));
        expectThrown(illegal, "no allocation", () -> VulkanGpu.copyDeviceToDevice(a, 0, 7, 0, 1));
        VulkanGpu.freeMemory(a);
        expectThrown(illegal, "no allocation", () -> VulkanGpu.freeMemory(a));
    }

    private static void exhaust() {
        List<Long> all = new ArrayList<>();
        long piece = Math.min(VulkanGpu.getDeviceMemory(0) / 10, 512L << 20);
        try {
            while (all.size() < 4096) all.add(VulkanGpu.allocateMemory(0, piece));
            throw new AssertionError("memory has no end");
        } catch (OutOfMemoryError e) {
            expect(e.getMessage().contains("MiB"), e.getMessage());
        }
        expect(!all.isEmpty(), "some memory");
        for (long handle : all) VulkanGpu.freeMemory(handle);
        VulkanGpu.freeMemory(VulkanGpu.allocateMemory(0, piece));
    }

    private static void threads() throws InterruptedException {
        List<Throwable> failures = new ArrayList<>();
        List<Thread> all = new ArrayList<>();
        for (int t = 0; t < 4; t++) {
            int salt = t;
            Thread thread = new Thread(() -> {
                try {
                    for (int k = 0; k < 100; k++) {
                        byte[] in = pattern(5000 + k, salt);
                        long a = VulkanGpu.allocateMemory(0, in.length);
                        VulkanGpu.copyToDevice(a, 0, in);
                        expect(Arrays.equals(in, VulkanGpu.copyFromDevice(a, 0, in.length)), "own");
                        VulkanGpu.freeMemory(a);
                    }
                } catch (Throwable e) {
                    synchronized (failures) {
                        failures.add(e);
                    }
                }
            });
            all.add(thread);
            thread.start();
        }
        for (Thread thread : all) thread.join();
        expect(failures.isEmpty(), failures.toString());
    }

    private static long residentKib() throws Exception {
        for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
            if (line.startsWith("VmRSS:")) return Long.parseLong(line.replaceAll("[^0-9]", ""));
        }
        return 0;
    }

    private static void cycles(int n) throws Exception {
        byte[] in = pattern(65536, 3);
        long early = 0;
        for (int k = 0; k < n; k++) {
            long a = VulkanGpu.allocateMemory(0, in.length);
            long b = VulkanGpu.allocateMemory(0, in.length);
            VulkanGpu.copyToDevice(a, 0, in);
            VulkanGpu.copyDeviceToDevice(b, 0, a, 0, in.length);
            byte[] out = VulkanGpu.copyFromDevice(b, 0, in.length);
            expect(out[k % out.length] == in[k % in.length], "bytes come back as they went");
            VulkanGpu.freeMemory(a);
            VulkanGpu.freeMemory(b);
            if (k == n / 4) early = residentKib();
        }
        System.out.printf("{\"cycles\": %d, \"early_kib\": %d, \"late_kib\": %d}%n", n, early,
                residentKib());
    }

    private static void life() {
        expectThrown(IllegalStateException.class, "initializeVulkan",
                () -> VulkanGpu.enumerateDevices());
        expect(VulkanGpu.initializeVulkan() && VulkanGpu.initializeVulkan(), "twice is fine");
        long a = VulkanGpu.allocateMemory(0, 1000);
        VulkanGpu.shutdown();
        VulkanGpu.shutdown();
        expectThrown(IllegalStateException.class, "", () -> VulkanGpu.freeMemory(a));
        expect(VulkanGpu.isVulkanSupported(), "it can be started again");
    }

    private static void unsupported() {
        expectThrown(UnsupportedOperationException.class, "Vulkan",
                () -> VulkanGpu.initializeVulkan());
        expect(!VulkanGpu.isVulkanSupported(), "no Vulkan here");
        expectThrown(IllegalStateException.class, "", () -> VulkanGpu.allocateMemory(0, 1));
    }

    public static void main(String[] arguments) throws Exception {
        if (arguments[0].equals("unsupported")) {
            unsupported();
        } else {
            life();
        }
        switch (arguments[0]) {
            case "all" -> {
                list();
                copies();
                badArguments();
                exhaust();
                threads();
            }
            case "cycles" -> cycles(Integer.parseInt(arguments[1]));
            default -> {}
        }
        VulkanGpu.shutdown();
        System.out.println("done");
    }
}
