/* faulty_layer.c - a Vulkan layer that makes a good driver behave like a bad one, on demand.
 *
 * It stands between the loader and the driver and spoils what EXO_FAULTY lists, separated by
 * commas:
 *
 *   wrong:KERNEL        its results come out negated
 *   no-pipeline:KERNEL  vkCreateComputePipelines fails with VK_ERROR_UNKNOWN
 *   crash:KERNEL        the process dies of SIGSEGV when its pipeline is made
 *   abort:KERNEL        the same with SIGABRT
 *   crash-run:KERNEL    the process dies of SIGSEGV when its dispatch is submitted
 *   lost:N              the N-th vkQueueSubmit of the process, and all after it, lose the device
 *   fail:FUNCTION:N     the N-th call of vkFUNCTION fails ("fail:AllocateMemory:2"); with N+ all
 * from there on; with :CODE behind it as VK_ERROR_CODE or VK_CODE ("fail:
 *                       WaitSemaphores:3+:TIMEOUT"), else as VK_ERROR_OUT_OF_DEVICE_MEMORY
 *   hang:FUNCTION:N     the N-th call of vkFUNCTION never returns
 *   accelerated         the device says that it has hardware for packed 4 x 8 bit dot products
 *   report              says on stderr which fault has struck, and what a device leaves behind
 *
 * KERNEL is a pattern for the name of the module's entry point, which is that of the kernel's file
 * without .spv.  Tests switch the layer on through VK_INSTANCE_LAYERS and VK_LAYER_PATH; it cannot
 * be switched on by being installed. */
#define _GNU_SOURCE
#define VK_NO_PROTOTYPES
#include <vulkan/vulkan.h>

#include <vulkan/vk_layer.h>

#include <fnmatch.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum fault {
    FAULT_WRONG = 1u << 0,
    FAULT_NO_PIPELINE = 1u << 1,
    FAULT_CRASH = 1u << 2,
    FAULT_ABORT = 1u << 3,
    FAULT_CRASH_RUN = 1u << 4,
};

static const struct {
    const char *name;
    uint32_t fault;
} fault_names[] = {
    {"wrong:", FAULT_WRONG}, {"no-pipeline:", FAULT_NO_PIPELINE}, {"crash:", FAULT_CRASH},
    {"abort:", FAULT_ABORT}, {"crash-run:", FAULT_CRASH_RUN},
};

/* What the layer remembers of a module, a pipeline or a command buffer. */
typedef struct {
    char kind;       /* 'm', 'p', 'c' */
    uint64_t handle; /* 0 = free */
    uint32_t faults;
    bool bound, doomed; /* of a command buffer: a guilty pipeline is bound; is dispatched */
} tag;

#define MAX_TAGS 4096
static tag tags[MAX_TAGS];
static uint64_t n_submits;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* The functions below this layer.  One instance and its devices at a time: all share a driver. */
static PFN_vkGetInstanceProcAddr next_instance_proc;
static PFN_vkGetDeviceProcAddr next_device_proc;
static PFN_vkGetPhysicalDeviceProperties2 next_properties;
static VkInstance current_instance;

/* Each device has its own functions; exo opens few. */
#define DEVICE_FUNCTIONS(X)                                                                        \
    X(DestroyDevice)                                                                               \
    X(CreateShaderModule)                                                                          \
    X(CreateComputePipelines)                                                                      \
    X(BeginCommandBuffer)                                                                          \
    X(CmdBindPipeline)                                                                             \
    X(CmdDispatch)                                                                                 \
    X(CmdDispatchIndirect)                                                                         \
    X(QueueSubmit)

static _Noreturn void give_up(const char *why) {
    (void)fprintf(stderr, "faulty layer: %s\n", why);
    exit(1);
}

static void die(int signal_number) {
    (void)signal(signal_number, SIG_DFL); /* also under a sanitizer */
    (void)raise(signal_number);
}

/* ---- calls that fail ---- */

/* Functions whose first argument belongs to a device, their parameters and arguments. */
#define FAILING_FUNCTIONS(X)                                                                       \
    X(AllocateMemory,                                                                              \
      (VkDevice d, const VkMemoryAllocateInfo *i, const VkAllocationCallbacks *a,                  \
       VkDeviceMemory *o),                                                                         \
      (d, i, a, o), +1)                                                                            \
    X(MapMemory,                                                                                   \
      (VkDevice d, VkDeviceMemory m, VkDeviceSize at, VkDeviceSize n, VkMemoryMapFlags f,          \
       void **o),                                                                                  \
      (d, m, at, n, f, o), 0)                                                                      \
    X(FlushMappedMemoryRanges, (VkDevice d, uint32_t n, const VkMappedMemoryRange *m), (d, n, m),  \
      0)                                                                                           \
    X(InvalidateMappedMemoryRanges, (VkDevice d, uint32_t n, const VkMappedMemoryRange *m),        \
      (d, n, m), 0)                                                                                \
    X(CreateBuffer,                                                                                \
      (VkDevice d, const VkBufferCreateInfo *i, const VkAllocationCallbacks *a, VkBuffer *o),      \
      (d, i, a, o), +1)                                                                            \
    X(BindBufferMemory, (VkDevice d, VkBuffer b, VkDeviceMemory m, VkDeviceSize at),               \
      (d, b, m, at), 0)                                                                            \
    X(CreateBufferView,                                                                            \
      (VkDevice d, const VkBufferViewCreateInfo *i, const VkAllocationCallbacks *a,                \
       VkBufferView *o),                                                                           \
      (d, i, a, o), +1)                                                                            \
    X(CreateFence,                                                                                 \
      (VkDevice d, const VkFenceCreateInfo *i, const VkAllocationCallbacks *a, VkFence *o),        \
      (d, i, a, o), +1)                                                                            \
    X(CreateSemaphore,                                                                             \
      (VkDevice d, const VkSemaphoreCreateInfo *i, const VkAllocationCallbacks *a,                 \
       VkSemaphore *o),                                                                            \
      (d, i, a, o), +1)                                                                            \
    X(CreateCommandPool,                                                                           \
      (VkDevice d, const VkCommandPoolCreateInfo *i, const VkAllocationCallbacks *a,               \
       VkCommandPool *o),                                                                          \
      (d, i, a, o), +1)                                                                            \
    X(AllocateCommandBuffers,                                                                      \
      (VkDevice d, const VkCommandBufferAllocateInfo *i, VkCommandBuffer *o), (d, i, o), 0)        \
    X(ResetCommandBuffer, (VkCommandBuffer d, VkCommandBufferResetFlags f), (d, f), 0)             \
    X(EndCommandBuffer, (VkCommandBuffer d), (d), 0)                                               \
    X(CreatePipelineCache,                                                                         \
      (VkDevice d, const VkPipelineCacheCreateInfo *i, const VkAllocationCallbacks *a,             \
       VkPipelineCache *o),                                                                        \
      (d, i, a, o), +1)                                                                            \
    X(CreatePipelineLayout,                                                                        \
      (VkDevice d, const VkPipelineLayoutCreateInfo *i, const VkAllocationCallbacks *a,            \
       VkPipelineLayout *o),                                                                       \
      (d, i, a, o), +1)                                                                            \
    X(CreateDescriptorSetLayout,                                                                   \
      (VkDevice d, const VkDescriptorSetLayoutCreateInfo *i, const VkAllocationCallbacks *a,       \
       VkDescriptorSetLayout *o),                                                                  \
      (d, i, a, o), +1)                                                                            \
    X(CreateDescriptorPool,                                                                        \
      (VkDevice d, const VkDescriptorPoolCreateInfo *i, const VkAllocationCallbacks *a,            \
       VkDescriptorPool *o),                                                                       \
      (d, i, a, o), +1)                                                                            \
    X(AllocateDescriptorSets,                                                                      \
      (VkDevice d, const VkDescriptorSetAllocateInfo *i, VkDescriptorSet *o), (d, i, o), 0)        \
    X(WaitSemaphores, (VkDevice d, const VkSemaphoreWaitInfo *i, uint64_t ns), (d, i, ns), 0)      \
    X(GetSemaphoreCounterValue, (VkDevice d, VkSemaphore s, uint64_t * o), (d, s, o), 0)           \
    X(DeviceWaitIdle, (VkDevice d), (d), 0)

/* Functions that free what one of those made. */
#define FREEING_FUNCTIONS(X)                                                                       \
    X(FreeMemory, VkDeviceMemory)                                                                  \
    X(DestroyBuffer, VkBuffer)                                                                     \
    X(DestroyBufferView, VkBufferView)                                                             \
    X(DestroyFence, VkFence)                                                                       \
    X(DestroySemaphore, VkSemaphore)                                                               \
    X(DestroyCommandPool, VkCommandPool)                                                           \
    X(DestroyPipelineCache, VkPipelineCache)                                                       \
    X(DestroyPipelineLayout, VkPipelineLayout)                                                     \
    X(DestroyDescriptorSetLayout, VkDescriptorSetLayout)                                           \
    X(DestroyDescriptorPool, VkDescriptorPool)                                                     \
    X(DestroyShaderModule, VkShaderModule)                                                         \
    X(DestroyPipeline, VkPipeline)

typedef struct {
    void *key; /* the dispatch table that a device shares with its queues and command buffers */
#define POINTER(name)                                 PFN_vk##name name;
#define POINTER_2(name, type)                         POINTER(name)
#define POINTER_4(name, parameters, arguments, alive) POINTER(name)
    DEVICE_FUNCTIONS(POINTER)
    FAILING_FUNCTIONS(POINTER_4)
    FREEING_FUNCTIONS(POINTER_2)
#undef POINTER
#undef POINTER_2
#undef POINTER_4
} device_functions;

#define MAX_DEVICES 32
static device_functions devices[MAX_DEVICES];

static const struct {
    const char *name;
    VkResult code;
} codes[] = {
    {"OUT_OF_DEVICE_MEMORY", VK_ERROR_OUT_OF_DEVICE_MEMORY},
    {"OUT_OF_HOST_MEMORY", VK_ERROR_OUT_OF_HOST_MEMORY},
    {"DEVICE_LOST", VK_ERROR_DEVICE_LOST},
    {"INITIALIZATION_FAILED", VK_ERROR_INITIALIZATION_FAILED},
    {"UNKNOWN", VK_ERROR_UNKNOWN},
    {"TIMEOUT", VK_TIMEOUT},
};

static bool is_listed(const char *what) {
    const char *list = getenv("EXO_FAULTY");
    return list != NULL && strstr(list, what) != NULL;
}

static _Noreturn void hang(void) {
    for (;;) (void)pause();
}

/* The item of EXO_FAULTY that strikes call `number` of this function: "FUNCTION:N[+][:CODE]". */
static bool strikes(const char *item, const char *function, uint64_t number, VkResult *code) {
    size_t n = strlen(function);
    char *end;
    if (strncmp(item, function, n) != 0 || item[n] != ':') return false;
    uint64_t at = strtoull(item + n + 1, &end, 10);
    bool all = *end == '+';
    if (all) end++;
    *code = VK_ERROR_OUT_OF_DEVICE_MEMORY;
    for (size_t i = 0; *end == ':' && i < sizeof codes / sizeof codes[0]; i++) {
        if (strcmp(end + 1, codes[i].name) == 0) *code = codes[i].code;
    }
    return number == at || (all && number > at);
}

/* Counts a call of vkFUNCTION; what it should fail with, or VK_SUCCESS. */
static VkResult strike(const char *function, uint64_t *calls) {
    const char *list = getenv("EXO_FAULTY");
    char copy[1024], *rest = copy;
    VkResult code, result = VK_SUCCESS;
    (void)snprintf(copy, sizeof copy, "%s", list != NULL ? list : "");
    (void)pthread_mutex_lock(&lock);
    uint64_t number = ++*calls;
    (void)pthread_mutex_unlock(&lock);
    for (char *item; (item = strsep(&rest, ",")) != NULL;) {
        bool fails = strncmp(item, "fail:", 5) == 0, hangs = strncmp(item, "hang:", 5) == 0;
        if ((!fails && !hangs) || !strikes(item + 5, function, number, &code)) continue;
        if (is_listed("report")) {
            (void)fprintf(stderr, "faulty layer: struck %s, call %llu\n", function,
                          (unsigned long long)number);
        }
        if (hangs) hang();
        result = code;
    }
    return result;
}

static long n_alive; /* objects of all devices; locked */

static void count_alive(long change) {
    (void)pthread_mutex_lock(&lock);
    n_alive += change;
    (void)pthread_mutex_unlock(&lock);
}

static device_functions *device_of(const void *dispatchable) {
    void *key = *(void *const *)dispatchable;
    for (int i = 0; i < MAX_DEVICES; i++) {
        if (devices[i].key == key) return &devices[i];
    }
    give_up("a device that was never opened");
}

/* ---- tags ---- */

static tag *find_tag(char kind, uint64_t handle) { /* locked */
    for (int i = 0; i < MAX_TAGS; i++) {
        if (tags[i].kind == kind && tags[i].handle == handle) return &tags[i];
    }
    return NULL;
}

static void set_tag(char kind, uint64_t handle, uint32_t faults) {
    (void)pthread_mutex_lock(&lock);
    tag *t = find_tag(kind, handle);
    if (t == NULL) t = find_tag(0, 0);
    if (t == NULL) give_up("too many objects");
    *t = (tag){.kind = kind, .handle = handle, .faults = faults};
    (void)pthread_mutex_unlock(&lock);
}

static tag get_tag(char kind, uint64_t handle) {
    (void)pthread_mutex_lock(&lock);
    const tag *t = find_tag(kind, handle);
    tag copy = t != NULL ? *t : (tag){0};
    (void)pthread_mutex_unlock(&lock);
    return copy;
}

enum { /* SPIR-V's numbers */
       OP_NAME = 5,
       OP_ENTRY_POINT = 15,
       OP_TYPE_FLOAT = 22,
       OP_TYPE_VECTOR = 23,
       OP_TYPE_POINTER = 32,
       OP_STORE = 62,
       OP_ACCESS_CHAIN = 65,
       OP_IN_BOUNDS_ACCESS_CHAIN = 66,
       OP_FNEGATE = 127,
       STORAGE_BUFFER = 12,
       HEADER_WORDS = 5,
       BOUND = 3, /* word of the header: one more than the largest id */
};

/* ---- which kernel is it ---- */

/* The faults that EXO_FAULTY lists for a kernel of this name. */
static uint32_t faults_of_name(const char *name) {
    const char *list = getenv("EXO_FAULTY");
    char copy[1024], *rest = copy;
    uint32_t faults = 0;
    (void)snprintf(copy, sizeof copy, "%s", list != NULL ? list : "");
    for (char *item; (item = strsep(&rest, ",")) != NULL;) {
        for (size_t i = 0; i < sizeof fault_names / sizeof fault_names[0]; i++) {
            size_t n = strlen(fault_names[i].name);
            if (strncmp(item, fault_names[i].name, n) == 0 && fnmatch(item + n, name, 0) == 0) {
                faults |= fault_names[i].fault;
            }
        }
    }
    return faults;
}

/* A module tells its kernel by the OpName that names its entry point. */
static uint32_t faults_of_code(const uint32_t *code, size_t bytes) {
    uint32_t entry = 0;
    for (size_t at = HEADER_WORDS; at < bytes / 4; at += code[at] >> 16) {
        uint32_t op = code[at] & 0xffff;
        if (code[at] >> 16 == 0) break;
        if (op == OP_ENTRY_POINT) entry = code[at + 2];
        if (op == OP_NAME && code[at + 1] == entry) return faults_of_name((char *)(code + at + 2));
    }
    give_up("a shader module without the name of its kernel");
}

/* ---- wrong results ---- */

/* For each id: the type of the floats it points at in a storage buffer; a float type's own id. */
typedef struct {
    uint32_t *floats, *target;
} id_table;

static void learn(const uint32_t *op, id_table *ids) {
    switch (op[0] & 0xffff) {
    case OP_TYPE_FLOAT: ids->floats[op[1]] = op[1]; break;
    case OP_TYPE_VECTOR: ids->floats[op[1]] = ids->floats[op[2]] != 0 ? op[1] : 0; break;
    case OP_TYPE_POINTER:
        if (op[2] == STORAGE_BUFFER) ids->target[op[1]] = ids->floats[op[3]];
        break;
    case OP_ACCESS_CHAIN:
    case OP_IN_BOUNDS_ACCESS_CHAIN: ids->target[op[2]] = ids->target[op[1]]; break;
    default: break;
    }
}

/* The module with every float negated on its way into a storage buffer; the caller frees it. */
static uint32_t *negate_results(const uint32_t *code, size_t words, size_t *out_words) {
    uint32_t next_id = code[BOUND];
    id_table ids = {calloc(next_id, sizeof(uint32_t)), calloc(next_id, sizeof(uint32_t))};
    uint32_t *out = malloc(3 * words * sizeof *out); /* a store has 3 words or more, 4 are added */
    if (ids.floats == NULL || ids.target == NULL || out == NULL) give_up("out of memory");
    size_t n = HEADER_WORDS;
    memcpy(out, code, HEADER_WORDS * sizeof *out);
    for (size_t at = HEADER_WORDS; at < words;) {
        const uint32_t *op = code + at;
        size_t length = op[0] >> 16;
        if (length == 0 || at + length > words) give_up("a module that is no SPIR-V");
        learn(op, &ids);
        memcpy(out + n, op, length * sizeof *out);
        if ((op[0] & 0xffff) == OP_STORE && ids.target[op[1]] != 0) {
            const uint32_t negate[] = {4u << 16 | OP_FNEGATE, ids.target[op[1]], next_id, op[2]};
            memcpy(out + n, negate, sizeof negate);
            memcpy(out + n + 4, op, length * sizeof *out);
            out[n + 4 + 2] = next_id++;
            n += 4;
        }
        n += length;
        at += length;
    }
    if (next_id == code[BOUND]) give_up("a kernel without results to spoil");
    out[BOUND] = next_id;
    free(ids.floats);
    free(ids.target);
    *out_words = n;
    return out;
}

/* ---- the device's functions ---- */

#define FAIL(name, parameters, arguments, alive)                                                   \
    static VKAPI_ATTR VkResult VKAPI_CALL faulty_##name parameters {                               \
        static uint64_t calls;                                                                     \
        VkResult r = strike(#name, &calls);                                                        \
        if (r == VK_SUCCESS) r = device_of(d)->name arguments;                                     \
        if (r == VK_SUCCESS) count_alive(alive);                                                   \
        return r;                                                                                  \
    }
FAILING_FUNCTIONS(FAIL)
#undef FAIL

#define FREE(name, type)                                                                           \
    static VKAPI_ATTR void VKAPI_CALL faulty_##name(VkDevice d, type what,                         \
                                                    const VkAllocationCallbacks *a) {              \
        if (what != VK_NULL_HANDLE) count_alive(-1);                                               \
        device_of(d)->name(d, what, a);                                                            \
    }
FREEING_FUNCTIONS(FREE)
#undef FREE

static VKAPI_ATTR void VKAPI_CALL faulty_DestroyDevice(VkDevice device,
                                                       const VkAllocationCallbacks *allocator) {
    static uint64_t calls;
    device_functions *d = device_of(device);
    (void)strike("DestroyDevice", &calls);
    if (n_alive != 0 && is_listed("report")) {
        (void)fprintf(stderr, "faulty layer: %ld objects are left\n", n_alive);
    }
    PFN_vkDestroyDevice destroy = d->DestroyDevice;
    d->key = NULL;
    destroy(device, allocator);
}

static VKAPI_ATTR VkResult VKAPI_CALL
faulty_CreateShaderModule(VkDevice device, const VkShaderModuleCreateInfo *info,
                          const VkAllocationCallbacks *allocator, VkShaderModule *out) {
    static uint64_t calls;
    VkResult failure = strike("CreateShaderModule", &calls);
    if (failure != VK_SUCCESS) return failure;
    uint32_t faults = faults_of_code(info->pCode, info->codeSize);
    VkShaderModuleCreateInfo changed = *info;
    uint32_t *code = NULL;
    size_t words;
    if (faults & FAULT_WRONG) {
        code = negate_results(info->pCode, info->codeSize / 4, &words);
        changed.pCode = code;
        changed.codeSize = words * 4;
    }
    VkResult r = device_of(device)->CreateShaderModule(device, &changed, allocator, out);
    free(code);
    if (r == VK_SUCCESS) set_tag('m', (uint64_t)(uintptr_t)*out, faults);
    if (r == VK_SUCCESS) count_alive(1);
    return r;
}

static VKAPI_ATTR VkResult VKAPI_CALL faulty_CreateComputePipelines(
    VkDevice device, VkPipelineCache cache, uint32_t n, const VkComputePipelineCreateInfo *infos,
    const VkAllocationCallbacks *allocator, VkPipeline *out) {
    uint32_t all = 0;
    for (uint32_t i = 0; i < n; i++) {
        all |= get_tag('m', (uint64_t)(uintptr_t)infos[i].stage.module).faults;
        out[i] = VK_NULL_HANDLE;
    }
    if (all & FAULT_CRASH) die(SIGSEGV);
    if (all & FAULT_ABORT) die(SIGABRT);
    if (all & FAULT_NO_PIPELINE) return VK_ERROR_UNKNOWN;
    static uint64_t calls;
    VkResult failure = strike("CreateComputePipelines", &calls);
    if (failure != VK_SUCCESS) return failure;
    VkResult r = device_of(device)->CreateComputePipelines(device, cache, n, infos, allocator, out);
    for (uint32_t i = 0; i < n && r == VK_SUCCESS; i++) {
        set_tag('p', (uint64_t)(uintptr_t)out[i],
                get_tag('m', (uint64_t)(uintptr_t)infos[i].stage.module).faults);
        count_alive(1);
    }
    return r;
}

static VKAPI_ATTR VkResult VKAPI_CALL
faulty_BeginCommandBuffer(VkCommandBuffer commands, const VkCommandBufferBeginInfo *info) {
    static uint64_t calls;
    VkResult failure = strike("BeginCommandBuffer", &calls);
    if (failure != VK_SUCCESS) return failure;
    set_tag('c', (uint64_t)(uintptr_t)commands, 0);
    return device_of(commands)->BeginCommandBuffer(commands, info);
}

static VKAPI_ATTR void VKAPI_CALL faulty_CmdBindPipeline(VkCommandBuffer commands,
                                                         VkPipelineBindPoint point,
                                                         VkPipeline pipeline) {
    uint32_t faults = get_tag('p', (uint64_t)(uintptr_t)pipeline).faults;
    (void)pthread_mutex_lock(&lock);
    tag *t = find_tag('c', (uint64_t)(uintptr_t)commands);
    if (t != NULL) t->bound = (faults & FAULT_CRASH_RUN) != 0;
    (void)pthread_mutex_unlock(&lock);
    device_of(commands)->CmdBindPipeline(commands, point, pipeline);
}

static void note_dispatch(VkCommandBuffer commands) {
    (void)pthread_mutex_lock(&lock);
    tag *t = find_tag('c', (uint64_t)(uintptr_t)commands);
    if (t != NULL) t->doomed = t->doomed || t->bound;
    (void)pthread_mutex_unlock(&lock);
}

static VKAPI_ATTR void VKAPI_CALL faulty_CmdDispatch(VkCommandBuffer commands, uint32_t x,
                                                     uint32_t y, uint32_t z) {
    note_dispatch(commands);
    device_of(commands)->CmdDispatch(commands, x, y, z);
}

static VKAPI_ATTR void VKAPI_CALL faulty_CmdDispatchIndirect(VkCommandBuffer commands,
                                                             VkBuffer buffer, VkDeviceSize offset) {
    note_dispatch(commands);
    device_of(commands)->CmdDispatchIndirect(commands, buffer, offset);
}

/* The submit from which on the device is lost; 0 = never. */
static uint64_t lost_from(void) {
    const char *list = getenv("EXO_FAULTY"), *at = list != NULL ? strstr(list, "lost:") : NULL;
    return at != NULL ? strtoull(at + strlen("lost:"), NULL, 10) : 0;
}

static VKAPI_ATTR VkResult VKAPI_CALL faulty_QueueSubmit(VkQueue queue, uint32_t n,
                                                         const VkSubmitInfo *submits,
                                                         VkFence fence) {
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t k = 0; k < submits[i].commandBufferCount; k++) {
            if (get_tag('c', (uint64_t)(uintptr_t)submits[i].pCommandBuffers[k]).doomed) {
                die(SIGSEGV);
            }
        }
    }
    (void)pthread_mutex_lock(&lock);
    uint64_t number = ++n_submits, lost = lost_from();
    (void)pthread_mutex_unlock(&lock);
    if (lost != 0 && number >= lost) return VK_ERROR_DEVICE_LOST;
    static uint64_t calls;
    VkResult failure = strike("QueueSubmit", &calls);
    if (failure != VK_SUCCESS) return failure;
    return device_of(queue)->QueueSubmit(queue, n, submits, fence);
}

/* ---- the chain of layers ---- */

/* The loader's link to the next layer: in the pNext chain, under a type of its own. */
static VkLayerInstanceCreateInfo *instance_link(const VkInstanceCreateInfo *info) {
    VkLayerInstanceCreateInfo *p =
        (VkLayerInstanceCreateInfo *)info->pNext; /* to be changed: the protocol */
    while (p != NULL && (p->sType != VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO ||
                         p->function != VK_LAYER_LINK_INFO)) {
        p = (VkLayerInstanceCreateInfo *)p->pNext;
    }
    return p;
}

static VkLayerDeviceCreateInfo *device_link(const VkDeviceCreateInfo *info) {
    VkLayerDeviceCreateInfo *p = (VkLayerDeviceCreateInfo *)info->pNext;
    while (p != NULL && (p->sType != VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO ||
                         p->function != VK_LAYER_LINK_INFO)) {
        p = (VkLayerDeviceCreateInfo *)p->pNext;
    }
    return p;
}

static VKAPI_ATTR VkResult VKAPI_CALL faulty_CreateInstance(const VkInstanceCreateInfo *info,
                                                            const VkAllocationCallbacks *allocator,
                                                            VkInstance *out) {
    VkLayerInstanceCreateInfo *link = instance_link(info);
    if (link == NULL) return VK_ERROR_INITIALIZATION_FAILED;
    static uint64_t calls;
    VkResult failure = strike("CreateInstance", &calls);
    if (failure != VK_SUCCESS) return failure;
    next_instance_proc = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
    link->u.pLayerInfo = link->u.pLayerInfo->pNext;
    PFN_vkCreateInstance create =
        (PFN_vkCreateInstance)next_instance_proc(VK_NULL_HANDLE, "vkCreateInstance");
    VkResult r = create(info, allocator, out);
    if (r != VK_SUCCESS) return r;
    current_instance = *out;
    /* Now: later the loader finds this layer's own function under that name. */
    next_properties = (PFN_vkGetPhysicalDeviceProperties2)next_instance_proc(
        *out, "vkGetPhysicalDeviceProperties2");
    return r;
}

static VKAPI_ATTR VkResult VKAPI_CALL faulty_CreateDevice(VkPhysicalDevice physical,
                                                          const VkDeviceCreateInfo *info,
                                                          const VkAllocationCallbacks *allocator,
                                                          VkDevice *out) {
    VkLayerDeviceCreateInfo *link = device_link(info);
    if (link == NULL) return VK_ERROR_INITIALIZATION_FAILED;
    static uint64_t calls;
    VkResult failure = strike("CreateDevice", &calls);
    if (failure != VK_SUCCESS) return failure;
    PFN_vkGetInstanceProcAddr instance_proc = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
    next_device_proc = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
    link->u.pLayerInfo = link->u.pLayerInfo->pNext;
    PFN_vkCreateDevice create =
        (PFN_vkCreateDevice)instance_proc(current_instance, "vkCreateDevice");
    VkResult r = create(physical, info, allocator, out);
    if (r != VK_SUCCESS) return r;
    device_functions *d = NULL;
    for (int i = 0; i < MAX_DEVICES && d == NULL; i++) {
        if (devices[i].key == NULL) d = &devices[i];
    }
    if (d == NULL) give_up("too many devices");
    d->key = *(void **)*out;
#define LOAD(name)                                 d->name = (PFN_vk##name)next_device_proc(*out, "vk" #name);
#define LOAD_2(name, type)                         LOAD(name)
#define LOAD_4(name, parameters, arguments, alive) LOAD(name)
    DEVICE_FUNCTIONS(LOAD)
    FAILING_FUNCTIONS(LOAD_4)
    FREEING_FUNCTIONS(LOAD_2)
#undef LOAD
#undef LOAD_2
#undef LOAD_4
    return r;
}

static VKAPI_ATTR void VKAPI_CALL
faulty_GetPhysicalDeviceProperties2(VkPhysicalDevice physical, VkPhysicalDeviceProperties2 *out) {
    next_properties(physical, out);
    if (!is_listed("accelerated")) return;
    for (VkBaseOutStructure *p = out->pNext; p != NULL; p = p->pNext) {
        if (p->sType != VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_PROPERTIES) {
            continue;
        }
        ((VkPhysicalDeviceShaderIntegerDotProductProperties *)p)
            ->integerDotProduct4x8BitPackedSignedAccelerated = VK_TRUE;
    }
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL faulty_GetInstanceProcAddr(VkInstance instance,
                                                                           const char *name);
static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL faulty_GetDeviceProcAddr(VkDevice device,
                                                                         const char *name);

static PFN_vkVoidFunction own_function(const char *name) {
    static const struct {
        const char *name;
        PFN_vkVoidFunction function;
    } all[] = {
#define OWN(name)                                 {"vk" #name, (PFN_vkVoidFunction)faulty_##name},
#define OWN_2(name, type)                         OWN(name)
#define OWN_4(name, parameters, arguments, alive) OWN(name)
        OWN(GetInstanceProcAddr) OWN(GetDeviceProcAddr) OWN(CreateInstance) OWN(CreateDevice)
            OWN(GetPhysicalDeviceProperties2) DEVICE_FUNCTIONS(OWN) FAILING_FUNCTIONS(OWN_4)
                FREEING_FUNCTIONS(OWN_2)
#undef OWN
#undef OWN_2
#undef OWN_4
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (strcmp(all[i].name, name) == 0) return all[i].function;
    }
    return NULL;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL faulty_GetInstanceProcAddr(VkInstance instance,
                                                                           const char *name) {
    PFN_vkVoidFunction own = own_function(name);
    if (own != NULL) return own;
    return next_instance_proc != NULL ? next_instance_proc(instance, name) : NULL;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL faulty_GetDeviceProcAddr(VkDevice device,
                                                                         const char *name) {
    PFN_vkVoidFunction own = own_function(name);
    if (own != NULL) return own;
    return next_device_proc != NULL ? next_device_proc(device, name) : NULL;
}

VK_LAYER_EXPORT VkResult VKAPI_CALL
vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *v);

VkResult VKAPI_CALL vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *v) {
    v->loaderLayerInterfaceVersion = CURRENT_LOADER_LAYER_INTERFACE_VERSION;
    v->pfnGetInstanceProcAddr = faulty_GetInstanceProcAddr;
    v->pfnGetDeviceProcAddr = faulty_GetDeviceProcAddr;
    v->pfnGetPhysicalDeviceProcAddr = NULL;
    return VK_SUCCESS;
}
