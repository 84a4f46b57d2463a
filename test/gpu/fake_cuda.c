// A libcuda.so.1 for tests: checks every driver call as strictly as the documentation allows, records it, and runs
// kernels in an interpreter (fake_device.py, a child process that maps the same memory).
// Work is queued and runs only when something waits for it, so that a missing synchronisation shows. Memory is never
// given out twice, so that a use after free shows. fake_driver.py builds it and explains the environment variables.
#define _GNU_SOURCE
#include <cuda.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ARENA (1ull << 36)
#define MAX_DEVICES 8
#define MAX_PARAMS 1024

enum Kind { MODULE, FUNCTION, STREAM, EVENT, GRAPH, EXEC, CONTEXT, PINNED };
static const char *kindNames[] = {"module", "function",   "stream",  "event",
                                  "graph",  "graph exec", "context", "pinned memory"};

struct Op { // one piece of queued work
  enum { LAUNCH, COPY, FILL, FREE, WAIT, RECORD } kind;
  char *command; // LAUNCH: the line for the device
  void *data;    // LAUNCH: parameter block
  size_t size;
  uint64_t to, from;
  bool toDevice, fromDevice;
  unsigned value, width;
  struct Handle *event;
  struct Op *next;
};

struct Handle {
  enum Kind kind;
  bool alive;
  int device, id;
  struct Handle *next, *module;
  // FUNCTION
  char name[512];
  int numParams, staticShared, maxThreads, registers, maxDynamic;
  size_t paramOffset[MAX_PARAMS], paramSize[MAX_PARAMS], paramBytes;
  // STREAM, GRAPH and EXEC
  struct Op *first, **last;
  uint64_t submitted, executed;
  bool nonBlocking;
  CUstreamCaptureStatus capture;
  // EVENT
  struct Handle *stream;
  uint64_t when;
  bool recorded, timing;
  double milliseconds;
  // CONTEXT
  int retained;
  // PINNED
  void *to;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct Handle *handles, contexts[MAX_DEVICES], defaultStreams[MAX_DEVICES];
static _Thread_local struct Handle *stack[64];
static _Thread_local int depth;
static bool initialized;
static CUresult sticky; // an error of a kernel: every later call returns it, as on a device
static int deviceCount = 1, capability = 90, nextId = 1, deviceSocket = -1;
static pid_t devicePid;
static char *arena;
static size_t used = 4096, live, memoryLimit = 1ull << 34;
static char message[4096];

// ---- the record ----------------------------------------------------------------------------------------------------

static void record(const char *format, ...) {
  static FILE *file;
  const char *path = getenv("FAKE_CUDA_LOG");
  if (!path || (!file && !(file = fopen(path, "ae"))))
    return;
  va_list args;
  va_start(args, format);
  vfprintf(file, format, args);
  va_end(args);
  fputc('\n', file);
  fflush(file);
}

// JSON text of a message, without what would need escapes.
static const char *plain(char *text) {
  for (char *c = text; *c; ++c)
    if (*c == '"' || *c == '\\' || (unsigned char)*c < 32)
      *c = '\'';
  return text;
}

static void complain(const char *format, ...) {
  char text[2048];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  record("{\"fault\": \"%s\"}", plain(text));
}

// FAKE_CUDA_FAIL=cuLaunchKernel:2:719,…: the second call of a function fails with an error.
static CUresult injected(const char *name) {
  static struct {
    char name[64];
    int calls;
  } counts[256];
  int i = 0;
  while (i < 255 && counts[i].name[0] && strcmp(counts[i].name, name))
    ++i;
  strncpy(counts[i].name, name, 63);
  int call = ++counts[i].calls;
  const char *plan = getenv("FAKE_CUDA_FAIL");
  for (; plan && *plan; plan = strchr(plan, ',') ? strchr(plan, ',') + 1 : "") {
    char wanted[64];
    int n, error;
    if (sscanf(plan, "%63[^:]:%d:%d", wanted, &n, &error) == 3 && n == call && !strcmp(wanted, name))
      return error;
  }
  return CUDA_SUCCESS;
}

static struct Handle *current(void) { return depth ? stack[depth - 1] : NULL; }

static CUresult begin(const char *name, bool needsContext) {
  pthread_mutex_lock(&mutex);
  CUresult r = injected(name);
  if (!r && !initialized && strcmp(name, "cuInit"))
    r = CUDA_ERROR_NOT_INITIALIZED;
  if (!r && needsContext && (!current() || !current()->retained))
    r = CUDA_ERROR_INVALID_CONTEXT;
  if (!r && needsContext)
    r = sticky;
  return r;
}

#define START(name, needsContext)                                                                                      \
  const char *called = name;                                                                                           \
  CUresult r = begin(called, needsContext)
#define FINISH(...)                                                                                                    \
  do {                                                                                                                 \
    char detail[1024];                                                                                                 \
    snprintf(detail, sizeof detail, __VA_ARGS__);                                                                      \
    record("{\"call\": \"%s\", \"result\": %d%s%s}", called, (int)r, *detail ? ", " : "", detail);                     \
    pthread_mutex_unlock(&mutex);                                                                                      \
    return r;                                                                                                          \
  } while (0)
#define NEED(pointer)                                                                                                  \
  if (!r && !(pointer))                                                                                                \
  r = CUDA_ERROR_INVALID_VALUE

// ---- the device ----------------------------------------------------------------------------------------------------

static void sendAll(const void *data, size_t size) {
  for (const char *at = data; size;) {
    ssize_t n = send(deviceSocket, at, size, MSG_NOSIGNAL);
    if (n <= 0)
      return;
    at += n, size -= n;
  }
}

// Sends a line (and data); the answer is `CODE text`, of which the text is left in `message`.
static CUresult ask(const char *line, const void *data, size_t size) {
  sendAll(line, strlen(line));
  sendAll("\n", 1);
  sendAll(data, size);
  size_t n = 0;
  while (n < sizeof message - 1 && recv(deviceSocket, message + n, 1, 0) == 1 && message[n] != '\n')
    ++n;
  message[n] = 0;
  char *rest;
  long code = n ? strtol(message, &rest, 10) : CUDA_ERROR_UNKNOWN;
  if (!n)
    rest = strcpy(message, "the interpreter died");
  memmove(message, rest + (*rest == ' '), strlen(rest) + 1 - (*rest == ' '));
  if (code)
    complain("%s", message);
  return (CUresult)code;
}

static CUresult askf(const void *data, size_t size, const char *format, ...) {
  char line[1024];
  va_list args;
  va_start(args, format);
  vsnprintf(line, sizeof line, format, args);
  va_end(args);
  return ask(line, data, size);
}

static CUresult startDevice(void) {
  const char *python = getenv("FAKE_CUDA_PYTHON"), *script = getenv("FAKE_CUDA_DEVICE");
  int sockets[2], memory = memfd_create("fake_cuda", MFD_CLOEXEC);
  if (!python || !script || memory < 0 || ftruncate(memory, ARENA) ||
      socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets))
    return CUDA_ERROR_UNKNOWN;
  arena = mmap(NULL, ARENA, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, memory, 0);
  char socketText[16], memoryText[16], *argv[] = {(char *)python, (char *)script, socketText, memoryText, NULL};
  // Descriptors far from those that the parent has: dup2 clears close-on-exec.
  snprintf(socketText, sizeof socketText, "%d", 198);
  snprintf(memoryText, sizeof memoryText, "%d", 199);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, sockets[1], 198);
  posix_spawn_file_actions_adddup2(&actions, memory, 199);
  // The child must not load this library in place of anything.
  char *environment[1024];
  int n = 0;
  for (char **e = environ; *e && n < 1023; ++e)
    if (strncmp(*e, "LD_", 3))
      environment[n++] = *e;
  environment[n] = NULL;
  int failed = posix_spawn(&devicePid, python, &actions, NULL, argv, environment);
  posix_spawn_file_actions_destroy(&actions);
  close(sockets[1]);
  close(memory);
  deviceSocket = sockets[0];
  if (failed || arena == MAP_FAILED)
    return CUDA_ERROR_UNKNOWN;
  return askf(NULL, 0, "init %lu %d", (unsigned long)arena, capability);
}

__attribute__((destructor)) static void atExit(void) {
  for (struct Handle *h = handles; h; h = h->next)
    if (h->alive && h->kind != FUNCTION)
      record("{\"leak\": \"%s\"}", kindNames[h->kind]);
  for (int d = 0; d < deviceCount; ++d)
    if (contexts[d].retained)
      record("{\"leak\": \"context\"}");
  if (live)
    record("{\"leak\": \"memory\", \"bytes\": %zu}", live);
  if (deviceSocket >= 0) {
    close(deviceSocket);
    waitpid(devicePid, NULL, 0);
  }
}

// ---- handles -------------------------------------------------------------------------------------------------------

static struct Handle *make(enum Kind kind) {
  struct Handle *h = calloc(1, sizeof *h);
  h->kind = kind, h->alive = true, h->id = nextId++, h->last = &h->first, h->next = handles;
  h->device = current()->device;
  return handles = h;
}

// The handle behind a pointer from outside, if there is a live one of this kind.
static struct Handle *find(const void *pointer, enum Kind kind) {
  for (struct Handle *h = handles; h; h = h->next)
    if (h == pointer)
      return h->alive && h->kind == kind ? h : NULL;
  return NULL;
}

static struct Handle *checked(CUresult *r, const void *pointer, enum Kind kind) {
  struct Handle *h = *r ? NULL : find(pointer, kind);
  if (!*r && !h) {
    *r = CUDA_ERROR_INVALID_HANDLE;
    complain("%p is no live %s", pointer, kindNames[kind]);
  } else if (h && h->device != current()->device && kind != EVENT) {
    *r = CUDA_ERROR_INVALID_CONTEXT;
    complain("a %s of device %d while device %d is current", kindNames[kind], h->device, current()->device);
  }
  return h;
}

static struct Handle *streamOf(CUresult *r, CUstream s) {
  if (*r)
    return NULL;
  if (!s || s == CU_STREAM_LEGACY || s == CU_STREAM_PER_THREAD)
    return &defaultStreams[current()->device];
  return checked(r, s, STREAM);
}

// ---- queued work ---------------------------------------------------------------------------------------------------

static CUresult drain(struct Handle *stream, uint64_t upTo);

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e3 + t.tv_nsec * 1e-6;
}

static CUresult copyNow(const struct Op *op) {
  CUresult r = CUDA_SUCCESS;
  if (op->fromDevice)
    r = askf(NULL, 0, "read %lu %zu", op->from, op->size);
  if (!r && op->toDevice)
    r = askf(NULL, 0, "write %lu %zu", op->to, op->size);
  if (!r)
    memcpy((void *)op->to, (void *)op->from, op->size);
  return r;
}

static CUresult fillNow(const struct Op *op) {
  CUresult r = askf(NULL, 0, "write %lu %zu", op->to, op->size);
  for (size_t i = 0; !r && i < op->size; i += op->width)
    memcpy((char *)op->to + i, &op->value, op->width);
  return r;
}

static CUresult freeNow(uint64_t address) {
  CUresult r = askf(NULL, 0, "free %lu", address);
  if (!r)
    live -= strtoull(message, NULL, 10);
  return r;
}

static CUresult execute(struct Handle *stream, struct Op *op) {
  switch (op->kind) {
  case LAUNCH:
    return ask(op->command, op->data, op->size);
  case COPY:
    return copyNow(op);
  case FILL:
    return fillNow(op);
  case FREE:
    return freeNow(op->to);
  case WAIT:
    return op->event->stream == stream ? CUDA_SUCCESS : drain(op->event->stream, op->event->when);
  case RECORD:
    op->event->milliseconds = now();
    return CUDA_SUCCESS;
  }
  return CUDA_ERROR_UNKNOWN;
}

// Runs the work of a stream up to a point. A kernel's error stays; that of a bad copy is reported once.
static CUresult drain(struct Handle *stream, uint64_t upTo) {
  CUresult first = CUDA_SUCCESS;
  while (stream->first && stream->executed < upTo && !sticky) {
    struct Op *op = stream->first;
    if (!(stream->first = op->next))
      stream->last = &stream->first;
    stream->executed++;
    CUresult r = execute(stream, op);
    if (op->kind == LAUNCH)
      sticky = r;
    first = first ? first : r;
  }
  return sticky ? sticky : first;
}

static CUresult drainAll(int device, bool blockingOnly) {
  CUresult first = drain(&defaultStreams[device], UINT64_MAX);
  for (struct Handle *h = handles; h; h = h->next)
    if (h->kind == STREAM && h->device == device && !(blockingOnly && h->nonBlocking)) {
      CUresult r = drain(h, UINT64_MAX);
      first = first ? first : r;
    }
  return sticky ? sticky : first;
}

static bool capturing(void) {
  for (struct Handle *h = handles; h; h = h->next)
    if (h->kind == STREAM && h->alive && h->capture == CU_STREAM_CAPTURE_STATUS_ACTIVE)
      return true;
  return false;
}

// What may not happen while a stream is captured; it spoils the capture.
static CUresult forbidInCapture(void) {
  if (!capturing())
    return CUDA_SUCCESS;
  for (struct Handle *h = handles; h; h = h->next)
    if (h->kind == STREAM && h->capture == CU_STREAM_CAPTURE_STATUS_ACTIVE)
      h->capture = CU_STREAM_CAPTURE_STATUS_INVALIDATED;
  complain("a call that is not permitted while a stream is captured");
  return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

static CUresult append(struct Handle *list, struct Op op) {
  struct Op *copy = malloc(sizeof op);
  *copy = op, copy->next = NULL;
  *list->last = copy, list->last = &copy->next;
  list->submitted++;
  return CUDA_SUCCESS;
}

static CUresult submit(struct Handle *stream, struct Op op) {
  bool legacy = stream == &defaultStreams[stream->device];
  if (stream->capture == CU_STREAM_CAPTURE_STATUS_INVALIDATED)
    return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  if (legacy && forbidInCapture())
    return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
  if (stream->capture == CU_STREAM_CAPTURE_STATUS_ACTIVE)
    return append(stream->module, op); // the graph
  CUresult r = CUDA_SUCCESS;
  if (legacy) // the legacy stream and the blocking ones wait for each other
    r = drainAll(stream->device, true);
  else if (!stream->nonBlocking)
    r = drain(&defaultStreams[stream->device], UINT64_MAX);
  return r ? r : append(stream, op);
}

// ---- initialisation and devices ------------------------------------------------------------------------------------

CUresult CUDAAPI cuInit(unsigned flags) {
  START("cuInit", false);
  if (!r && flags)
    r = CUDA_ERROR_INVALID_VALUE;
  if (!r && !initialized) {
    const char *text;
    if ((text = getenv("FAKE_CUDA_DEVICES")))
      deviceCount = atoi(text);
    if ((text = getenv("FAKE_CUDA_CAPABILITY")))
      capability = atoi(text);
    if ((text = getenv("FAKE_CUDA_MEMORY")))
      memoryLimit = strtoull(text, NULL, 10);
    for (int d = 0; d < deviceCount; ++d) {
      contexts[d] = (struct Handle){.kind = CONTEXT, .alive = true, .device = d};
      defaultStreams[d] = (struct Handle){.kind = STREAM, .alive = true, .device = d};
      defaultStreams[d].last = &defaultStreams[d].first;
    }
    if (!deviceCount)
      r = CUDA_ERROR_NO_DEVICE;
    else if (!(r = startDevice()))
      initialized = true;
  }
  FINISH("\"flags\": %u", flags);
}

CUresult CUDAAPI cuDriverGetVersion(int *version) {
  const char *called = "cuDriverGetVersion", *text = getenv("FAKE_CUDA_VERSION");
  pthread_mutex_lock(&mutex); // it needs no cuInit
  CUresult r = injected(called);
  NEED(version);
  if (!r)
    *version = text ? atoi(text) : 13000;
  FINISH("%s", "");
}

CUresult CUDAAPI cuDeviceGetCount(int *count) {
  START("cuDeviceGetCount", false);
  NEED(count);
  if (!r)
    *count = deviceCount;
  FINISH("%s", "");
}

static CUresult validDevice(CUdevice d) { return d >= 0 && d < deviceCount ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE; }

CUresult CUDAAPI cuDeviceGet(CUdevice *device, int ordinal) {
  START("cuDeviceGet", false);
  NEED(device);
  if (!r && !(r = validDevice(ordinal)))
    *device = ordinal;
  FINISH("\"ordinal\": %d", ordinal);
}

CUresult CUDAAPI cuDeviceGetName(char *name, int length, CUdevice device) {
  START("cuDeviceGetName", false);
  NEED(name);
  if (!r && !(r = validDevice(device)))
    snprintf(name, length, "fake sm_%d", capability);
  FINISH("\"device\": %d", device);
}

CUresult CUDAAPI cuDeviceTotalMem(size_t *bytes, CUdevice device) {
  START("cuDeviceTotalMem_v2", false);
  NEED(bytes);
  if (!r && !(r = validDevice(device)))
    *bytes = memoryLimit;
  FINISH("\"device\": %d", device);
}

static int sharedPerSm(void) { // CUDA C++ Programming Guide, technical specifications per compute capability
  return (capability == 75                       ? 64
          : capability == 80                     ? 164
          : capability == 86 || capability == 89 ? 100
          : capability >= 120                    ? 100
                                                 : 228)
         << 10;
}

static int sharedOptIn(void) { return sharedPerSm() - (capability == 75 ? 0 : 1024); }

static int threadsPerSm(void) {
  return capability == 75 ? 1024 : capability == 86 || capability == 89 || capability >= 120 ? 1536 : 2048;
}

static CUresult attribute(int *value, CUdevice_attribute which) {
  switch (which) {
  case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
    *value = capability / 10;
    break;
  case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
    *value = capability % 10;
    break;
  case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
  case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X:
  case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y:
    *value = 1024;
    break;
  case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z:
    *value = 64;
    break;
  case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X:
    *value = 2147483647;
    break;
  case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y:
  case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z:
    *value = 65535;
    break;
  case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK:
    *value = 48 << 10;
    break;
  case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
    *value = sharedOptIn();
    break;
  case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR:
    *value = sharedPerSm();
    break;
  case CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK:
    *value = capability == 75 ? 0 : 1024;
    break;
  case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR:
    *value = threadsPerSm();
    break;
  case CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR:
    *value = capability == 75 || capability == 86 ? 16 : capability == 89 || capability >= 120 ? 24 : 32;
    break;
  case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK:
  case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR:
    *value = 65536;
    break;
  case CU_DEVICE_ATTRIBUTE_WARP_SIZE:
    *value = 32;
    break;
  case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
    *value = 4;
    break;
  case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE:
    *value = 32 << 20;
    break;
  case CU_DEVICE_ATTRIBUTE_CLOCK_RATE:
    *value = 1500000;
    break;
  case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE:
    *value = 2000000;
    break;
  case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH:
    *value = 4096;
    break;
  case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
  case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED:
    *value = 1;
    break;
  default:
    return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDeviceGetAttribute(int *value, CUdevice_attribute which, CUdevice device) {
  START("cuDeviceGetAttribute", false);
  NEED(value);
  if (!r && !(r = validDevice(device)))
    r = attribute(value, which);
  FINISH("\"attribute\": %d", (int)which);
}

CUresult CUDAAPI cuGetErrorName(CUresult error, const char **name) {
  static const struct {
    CUresult error;
    const char *name;
  } names[] = {
#define NAME(e) {e, #e}
      NAME(CUDA_SUCCESS),
      NAME(CUDA_ERROR_INVALID_VALUE),
      NAME(CUDA_ERROR_OUT_OF_MEMORY),
      NAME(CUDA_ERROR_NOT_INITIALIZED),
      NAME(CUDA_ERROR_NO_DEVICE),
      NAME(CUDA_ERROR_INVALID_DEVICE),
      NAME(CUDA_ERROR_INVALID_CONTEXT),
      NAME(CUDA_ERROR_NO_BINARY_FOR_GPU),
      NAME(CUDA_ERROR_INVALID_PTX),
      NAME(CUDA_ERROR_INVALID_HANDLE),
      NAME(CUDA_ERROR_NOT_FOUND),
      NAME(CUDA_ERROR_NOT_READY),
      NAME(CUDA_ERROR_ILLEGAL_ADDRESS),
      NAME(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES),
      NAME(CUDA_ERROR_MISALIGNED_ADDRESS),
      NAME(CUDA_ERROR_LAUNCH_FAILED),
      NAME(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED),
      NAME(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED),
      NAME(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT),
      NAME(CUDA_ERROR_UNKNOWN),
      NAME(CUDA_ERROR_UNSUPPORTED_PTX_VERSION),
      NAME(CUDA_ERROR_ECC_UNCORRECTABLE),
      NAME(CUDA_ERROR_LAUNCH_TIMEOUT)};
  for (size_t i = 0; name && i < sizeof names / sizeof *names; ++i)
    if (names[i].error == error) {
      *name = names[i].name;
      return CUDA_SUCCESS;
    }
  if (name)
    *name = NULL;
  return CUDA_ERROR_INVALID_VALUE;
}

CUresult CUDAAPI cuGetErrorString(CUresult error, const char **text) { return cuGetErrorName(error, text); }

// ---- contexts ------------------------------------------------------------------------------------------------------

CUresult CUDAAPI cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  START("cuDevicePrimaryCtxRetain", false);
  NEED(context);
  if (!r && !(r = validDevice(device))) {
    contexts[device].retained++;
    *context = (CUcontext)&contexts[device];
  }
  FINISH("\"device\": %d", device);
}

CUresult CUDAAPI cuDevicePrimaryCtxRelease(CUdevice device) {
  START("cuDevicePrimaryCtxRelease_v2", false);
  if (!r && !(r = validDevice(device)))
    r = contexts[device].retained > 0 && contexts[device].retained-- ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
  FINISH("\"device\": %d", device);
}

CUresult CUDAAPI cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
  START("cuDevicePrimaryCtxGetState", false);
  NEED(flags);
  NEED(active);
  if (!r && !(r = validDevice(device)))
    *flags = 0, *active = contexts[device].retained > 0;
  FINISH("\"device\": %d", device);
}

static bool isContext(CUcontext c) {
  for (int d = 0; d < deviceCount; ++d)
    if ((struct Handle *)c == &contexts[d])
      return contexts[d].retained > 0;
  return false;
}

CUresult CUDAAPI cuCtxGetCurrent(CUcontext *context) {
  START("cuCtxGetCurrent", false);
  NEED(context);
  if (!r)
    *context = (CUcontext)current();
  FINISH("%s", "");
}

CUresult CUDAAPI cuCtxSetCurrent(CUcontext context) {
  START("cuCtxSetCurrent", false);
  if (!r && context && !isContext(context))
    r = CUDA_ERROR_INVALID_CONTEXT;
  if (!r) {
    depth = depth ? depth : 1;
    stack[depth - 1] = (struct Handle *)context;
    depth -= !context;
  }
  FINISH("\"null\": %s", context ? "false" : "true");
}

CUresult CUDAAPI cuCtxPushCurrent(CUcontext context) {
  START("cuCtxPushCurrent_v2", false);
  if (!r && (!isContext(context) || depth == 64))
    r = CUDA_ERROR_INVALID_CONTEXT;
  if (!r)
    stack[depth++] = (struct Handle *)context;
  FINISH("\"depth\": %d", depth);
}

CUresult CUDAAPI cuCtxPopCurrent(CUcontext *context) {
  START("cuCtxPopCurrent_v2", false);
  if (!r && !depth)
    r = CUDA_ERROR_INVALID_CONTEXT;
  if (!r) {
    --depth;
    if (context)
      *context = (CUcontext)stack[depth];
  }
  FINISH("\"depth\": %d", depth);
}

CUresult CUDAAPI cuCtxGetDevice(CUdevice *device) {
  START("cuCtxGetDevice", true);
  NEED(device);
  if (!r)
    *device = current()->device;
  FINISH("%s", "");
}

CUresult CUDAAPI cuCtxSynchronize(void) {
  START("cuCtxSynchronize", true);
  if (!r && !(r = forbidInCapture()))
    r = drainAll(current()->device, false);
  FINISH("%s", "");
}

// ---- modules and functions -----------------------------------------------------------------------------------------

static void fillErrorLog(unsigned count, CUjit_option *options, void **values) {
  char *buffer = NULL;
  size_t size = 0;
  for (unsigned i = 0; i < count; ++i) {
    if (options[i] == CU_JIT_ERROR_LOG_BUFFER)
      buffer = values[i];
    if (options[i] == CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES)
      size = (size_t)values[i];
  }
  if (buffer && size)
    snprintf(buffer, size, "%s", message);
}

static CUresult load(CUmodule *module, const char *image, unsigned count, CUjit_option *options, void **values) {
  while (*image == '\n' || *image == ' ')
    ++image;
  if (strncmp(image, "//", 2) && strncmp(image, ".version", 8)) {
    complain("the image is no PTX text, and nothing else can be run here");
    return CUDA_ERROR_NO_BINARY_FOR_GPU;
  }
  struct Handle *m = make(MODULE);
  CUresult r = askf(image, strlen(image), "module %d %zu", m->id, strlen(image));
  m->alive = !r;
  if (r)
    fillErrorLog(count, options, values);
  else
    *module = (CUmodule)m;
  return r;
}

CUresult CUDAAPI cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned count, CUjit_option *options,
                                    void **values) {
  START("cuModuleLoadDataEx", true);
  NEED(module);
  NEED(image);
  if (!r)
    r = load(module, image, count, options, values);
  FINISH("\"options\": %u", count);
}

CUresult CUDAAPI cuModuleLoadData(CUmodule *module, const void *image) {
  START("cuModuleLoadData", true);
  NEED(module);
  NEED(image);
  if (!r)
    r = load(module, image, 0, NULL, NULL);
  FINISH("%s", "");
}

CUresult CUDAAPI cuModuleUnload(CUmodule module) {
  START("cuModuleUnload", true);
  struct Handle *m = checked(&r, module, MODULE);
  if (!r && !(r = drainAll(m->device, false))) {
    m->alive = false;
    for (struct Handle *h = handles; h; h = h->next)
      if (h->kind == FUNCTION && h->module == m)
        h->alive = false;
    r = askf(NULL, 0, "unload %d", m->id);
  }
  FINISH("%s", "");
}

// The device's answer: registers, static shared bytes, most threads, parameters, then offset and size of each.
static void readFunction(struct Handle *f) {
  char *at = message;
  f->registers = strtol(at, &at, 10);
  f->staticShared = strtol(at, &at, 10);
  f->maxThreads = strtol(at, &at, 10);
  f->paramBytes = strtoul(at, &at, 10);
  f->numParams = strtol(at, &at, 10);
  for (int i = 0; i < f->numParams && i < MAX_PARAMS; ++i) {
    f->paramOffset[i] = strtoul(at, &at, 10);
    f->paramSize[i] = strtoul(at, &at, 10);
  }
}

CUresult CUDAAPI cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
  START("cuModuleGetFunction", true);
  NEED(function);
  NEED(name);
  struct Handle *m = checked(&r, module, MODULE);
  if (!r && !(r = askf(NULL, 0, "function %d %s", m->id, name))) {
    struct Handle *f = make(FUNCTION);
    f->module = m;
    snprintf(f->name, sizeof f->name, "%s", name);
    readFunction(f);
    f->maxDynamic = (48 << 10) - f->staticShared;
    *function = (CUfunction)f;
  }
  FINISH("\"name\": \"%s\"", name ? name : "");
}

CUresult CUDAAPI cuFuncSetAttribute(CUfunction function, CUfunction_attribute which, int value) {
  START("cuFuncSetAttribute", true);
  struct Handle *f = checked(&r, function, FUNCTION);
  if (!r && which == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) {
    if (value < 0 || value + f->staticShared > sharedOptIn())
      r = CUDA_ERROR_INVALID_VALUE;
    else
      f->maxDynamic = value;
  } else if (!r && which != CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT) {
    r = CUDA_ERROR_INVALID_VALUE;
  }
  FINISH("\"attribute\": %d, \"value\": %d", (int)which, value);
}

CUresult CUDAAPI cuFuncGetAttribute(int *value, CUfunction_attribute which, CUfunction function) {
  START("cuFuncGetAttribute", true);
  NEED(value);
  struct Handle *f = checked(&r, function, FUNCTION);
  if (!r)
    switch (which) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
      *value = f->maxThreads;
      break;
    case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
      *value = f->staticShared;
      break;
    case CU_FUNC_ATTRIBUTE_NUM_REGS:
      *value = f->registers;
      break;
    case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
    case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
      *value = 0;
      break;
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
      *value = f->maxDynamic;
      break;
    case CU_FUNC_ATTRIBUTE_PTX_VERSION:
    case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
      *value = capability;
      break;
    default:
      r = CUDA_ERROR_INVALID_VALUE;
    }
  FINISH("\"attribute\": %d", (int)which);
}

// ---- launches ------------------------------------------------------------------------------------------------------

// Copies from memory that the caller may not have: an unreadable argument is an error, not a crash.
static bool safeCopy(void *to, const void *from, size_t size) {
  struct iovec local = {to, size}, remote = {(void *)from, size};
  return from && process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == (ssize_t)size;
}

static CUresult gather(struct Handle *f, char *block, void **params, void **extra) {
  if (extra) {
    void *buffer = NULL;
    size_t *size = NULL;
    for (; *extra != CU_LAUNCH_PARAM_END; extra += 2) {
      if (*extra == CU_LAUNCH_PARAM_BUFFER_POINTER)
        buffer = extra[1];
      else if (*extra == CU_LAUNCH_PARAM_BUFFER_SIZE)
        size = extra[1];
      else
        return CUDA_ERROR_INVALID_VALUE;
    }
    bool fits = size && *size == f->paramBytes && !params;
    return fits && safeCopy(block, buffer, *size) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  }
  for (int i = 0; i < f->numParams; ++i) {
    void *argument = NULL;
    if (!safeCopy(&argument, params ? params + i : NULL, sizeof argument) ||
        !safeCopy(block + f->paramOffset[i], argument, f->paramSize[i])) {
      complain("argument %d of %d of %s is not readable", i, f->numParams, f->name);
      return CUDA_ERROR_INVALID_VALUE;
    }
  }
  return CUDA_SUCCESS;
}

static CUresult launch(CUfunction function, const unsigned *d, unsigned shared, CUstream stream, void **params,
                       void **extra) {
  CUresult r = CUDA_SUCCESS;
  struct Handle *f = checked(&r, function, FUNCTION), *s = streamOf(&r, stream);
  if (r)
    return r;
  char *block = calloc(1, f->paramBytes + 1);
  if ((r = gather(f, block, params, extra)))
    return r;
  char *line = malloc(1024);
  snprintf(line, 1024, "launch %d %s %u %u %u %u %u %u %u %d %d %zu", f->module->id, f->name, d[0], d[1], d[2], d[3],
           d[4], d[5], shared, f->maxDynamic + f->staticShared, f->device, f->paramBytes);
  char check[1100];
  snprintf(check, sizeof check, "check %s", line);
  if ((r = ask(check, NULL, 0)))
    return r;
  return submit(s, (struct Op){.kind = LAUNCH, .command = line, .data = block, .size = f->paramBytes});
}

CUresult CUDAAPI cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                                unsigned bz, unsigned shared, CUstream stream, void **params, void **extra) {
  START("cuLaunchKernel", true);
  if (!r)
    r = launch(f, (unsigned[]){gx, gy, gz, bx, by, bz}, shared, stream, params, extra);
  FINISH("\"kernel\": \"%s\", \"grid\": [%u, %u, %u], \"block\": [%u, %u, %u], \"shared\": %u, \"stream\": %d",
         r == CUDA_ERROR_INVALID_HANDLE ? "?"
         : f                            ? ((struct Handle *)f)->name
                                        : "?",
         gx, gy, gz, bx, by, bz, shared, stream && find(stream, STREAM) ? find(stream, STREAM)->id : 0);
}

CUresult CUDAAPI cuLaunchKernelEx(const CUlaunchConfig *c, CUfunction f, void **params, void **extra) {
  START("cuLaunchKernelEx", true);
  NEED(c);
  if (!r && c->numAttrs) {
    complain("launch attributes are not modelled");
    r = CUDA_ERROR_INVALID_VALUE;
  }
  if (!r) {
    unsigned d[] = {c->gridDimX, c->gridDimY, c->gridDimZ, c->blockDimX, c->blockDimY, c->blockDimZ};
    r = launch(f, d, c->sharedMemBytes, c->hStream, params, extra);
  }
  FINISH("\"kernel\": \"%s\"", find(f, FUNCTION) ? find(f, FUNCTION)->name : "?");
}

// ---- memory --------------------------------------------------------------------------------------------------------

static CUresult allocate(CUdeviceptr *pointer, size_t size) {
  size_t padded = (size + 511) / 256 * 256 + 256; // a guard between any two
  if (!size)
    return CUDA_ERROR_INVALID_VALUE;
  if (live + size > memoryLimit || used + padded > ARENA)
    return CUDA_ERROR_OUT_OF_MEMORY;
  *pointer = (CUdeviceptr)(arena + used);
  used += padded;
  live += size;
  return askf(NULL, 0, "alloc %llu %zu %d", *pointer, size, current()->device);
}

CUresult CUDAAPI cuMemAlloc(CUdeviceptr *pointer, size_t size) {
  START("cuMemAlloc_v2", true);
  NEED(pointer);
  if (!r && !(r = forbidInCapture()))
    r = allocate(pointer, size);
  FINISH("\"bytes\": %zu", size);
}

CUresult CUDAAPI cuMemAllocAsync(CUdeviceptr *pointer, size_t size, CUstream stream) {
  START("cuMemAllocAsync", true);
  NEED(pointer);
  struct Handle *s = streamOf(&r, stream);
  if (!r && s->capture) {
    complain("cuMemAllocAsync in a capture is not modelled");
    r = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  if (!r)
    r = allocate(pointer, size);
  FINISH("\"bytes\": %zu", size);
}

CUresult CUDAAPI cuMemFree(CUdeviceptr pointer) {
  START("cuMemFree_v2", true);
  if (!r && pointer && !(r = forbidInCapture()) && !(r = drainAll(current()->device, false)))
    r = freeNow(pointer);
  FINISH("%s", "");
}

CUresult CUDAAPI cuMemFreeAsync(CUdeviceptr pointer, CUstream stream) {
  START("cuMemFreeAsync", true);
  struct Handle *s = streamOf(&r, stream);
  if (!r)
    r = submit(s, (struct Op){.kind = FREE, .to = pointer});
  FINISH("%s", "");
}

CUresult CUDAAPI cuMemGetInfo(size_t *available, size_t *total) {
  START("cuMemGetInfo_v2", true);
  NEED(available);
  NEED(total);
  if (!r)
    *available = memoryLimit - live, *total = memoryLimit;
  FINISH("%s", "");
}

// Page-locked host memory is the caller's to use at once, and the caller's to free.
static CUresult pin(void **pointer, size_t size) {
  if (!size || !(*pointer = aligned_alloc(4096, (size + 4095) / 4096 * 4096)))
    return CUDA_ERROR_INVALID_VALUE;
  make(PINNED)->to = *pointer;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemHostAlloc(void **pointer, size_t size, unsigned flags) {
  START("cuMemHostAlloc", true);
  NEED(pointer);
  if (!r && !(r = forbidInCapture()))
    r = pin(pointer, size);
  FINISH("\"bytes\": %zu, \"flags\": %u", size, flags);
}

CUresult CUDAAPI cuMemAllocHost(void **pointer, size_t size) {
  START("cuMemAllocHost_v2", true);
  NEED(pointer);
  if (!r && !(r = forbidInCapture()))
    r = pin(pointer, size);
  FINISH("\"bytes\": %zu", size);
}

CUresult CUDAAPI cuMemFreeHost(void *pointer) {
  START("cuMemFreeHost", true);
  if (!r && !(r = drainAll(current()->device, false))) {
    r = CUDA_ERROR_INVALID_VALUE;
    for (struct Handle *h = handles; h && r; h = h->next)
      if (h->kind == PINNED && h->alive && h->to == pointer) {
        free(pointer);
        h->alive = false, r = CUDA_SUCCESS;
      }
  }
  FINISH("%s", "");
}

// A synchronous copy is one on the legacy stream, followed by a wait for it.
static CUresult copySync(struct Op op) {
  CUresult r = forbidInCapture();
  struct Handle *s = &defaultStreams[current()->device];
  return r || (r = submit(s, op)) ? r : drain(s, UINT64_MAX);
}

#define COPY_FUNCTIONS(name, version, To, From, onTo, onFrom)                                                          \
  CUresult CUDAAPI name##version(To to, From from, size_t size) {                                                      \
    START(#name #version, true);                                                                                       \
    struct Op op = {.kind = COPY, .to = (uint64_t)to, .from = (uint64_t)from, .size = size};                           \
    op.toDevice = onTo, op.fromDevice = onFrom;                                                                        \
    if (!r)                                                                                                            \
      r = copySync(op);                                                                                                \
    FINISH("\"bytes\": %zu", size);                                                                                    \
  }                                                                                                                    \
  CUresult CUDAAPI name##Async##version(To to, From from, size_t size, CUstream stream) {                              \
    START(#name "Async" #version, true);                                                                               \
    struct Op op = {.kind = COPY, .to = (uint64_t)to, .from = (uint64_t)from, .size = size};                           \
    op.toDevice = onTo, op.fromDevice = onFrom;                                                                        \
    struct Handle *s = streamOf(&r, stream);                                                                           \
    if (!r)                                                                                                            \
      r = submit(s, op);                                                                                               \
    FINISH("\"bytes\": %zu", size);                                                                                    \
  }
COPY_FUNCTIONS(cuMemcpyHtoD, _v2, CUdeviceptr, const void *, true, false)
COPY_FUNCTIONS(cuMemcpyDtoH, _v2, void *, CUdeviceptr, false, true)
COPY_FUNCTIONS(cuMemcpyDtoD, _v2, CUdeviceptr, CUdeviceptr, true, true)

#define FILL_FUNCTIONS(name, version, Value, bytes)                                                                    \
  CUresult CUDAAPI name##version(CUdeviceptr to, Value value, size_t count) {                                          \
    START(#name #version, true);                                                                                       \
    if (!r)                                                                                                            \
      r = copySync((struct Op){.kind = FILL, .to = to, .size = count * bytes, .value = value, .width = bytes});        \
    FINISH("\"bytes\": %zu", count * bytes);                                                                           \
  }                                                                                                                    \
  CUresult CUDAAPI name##Async(CUdeviceptr to, Value value, size_t count, CUstream stream) {                           \
    START(#name "Async", true);                                                                                        \
    struct Handle *s = streamOf(&r, stream);                                                                           \
    if (!r)                                                                                                            \
      r = submit(s, (struct Op){.kind = FILL, .to = to, .size = count * bytes, .value = value, .width = bytes});       \
    FINISH("\"bytes\": %zu", count * bytes);                                                                           \
  }
FILL_FUNCTIONS(cuMemsetD8, _v2, unsigned char, 1)
FILL_FUNCTIONS(cuMemsetD32, _v2, unsigned, 4)

// ---- streams, capture and events -----------------------------------------------------------------------------------

CUresult CUDAAPI cuStreamCreate(CUstream *stream, unsigned flags) {
  START("cuStreamCreate", true);
  NEED(stream);
  if (!r && flags > CU_STREAM_NON_BLOCKING)
    r = CUDA_ERROR_INVALID_VALUE;
  if (!r) {
    struct Handle *s = make(STREAM);
    s->nonBlocking = flags & CU_STREAM_NON_BLOCKING;
    *stream = (CUstream)s;
  }
  FINISH("\"flags\": %u", flags);
}

CUresult CUDAAPI cuStreamCreateWithPriority(CUstream *stream, unsigned flags, int priority) {
  (void)priority;
  return cuStreamCreate(stream, flags);
}

CUresult CUDAAPI cuStreamDestroy(CUstream stream) {
  START("cuStreamDestroy_v2", true);
  struct Handle *s = checked(&r, stream, STREAM);
  if (!r && !(r = drain(s, UINT64_MAX)))
    s->alive = false;
  FINISH("%s", "");
}

CUresult CUDAAPI cuStreamSynchronize(CUstream stream) {
  START("cuStreamSynchronize", true);
  struct Handle *s = streamOf(&r, stream);
  if (!r && !(r = forbidInCapture()))
    r = s == &defaultStreams[s->device] ? drainAll(s->device, true) : drain(s, UINT64_MAX);
  FINISH("%s", "");
}

CUresult CUDAAPI cuStreamQuery(CUstream stream) {
  START("cuStreamQuery", true);
  struct Handle *s = streamOf(&r, stream);
  if (!r && !(r = forbidInCapture()))
    r = s->first ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
  FINISH("%s", "");
}

CUresult CUDAAPI cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status) {
  START("cuStreamIsCapturing", true);
  NEED(status);
  struct Handle *s = streamOf(&r, stream);
  if (!r)
    *status = s->capture;
  FINISH("%s", "");
}

CUresult CUDAAPI cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode mode) {
  START("cuStreamBeginCapture_v2", true);
  struct Handle *s = checked(&r, stream, STREAM);
  if (!r && s->capture)
    r = CUDA_ERROR_ILLEGAL_STATE;
  if (!r)
    s->capture = CU_STREAM_CAPTURE_STATUS_ACTIVE, s->module = make(GRAPH);
  FINISH("\"mode\": %d", (int)mode);
}

CUresult CUDAAPI cuStreamEndCapture(CUstream stream, CUgraph *graph) {
  START("cuStreamEndCapture", true);
  NEED(graph);
  struct Handle *s = checked(&r, stream, STREAM);
  if (!r && !s->capture)
    r = CUDA_ERROR_ILLEGAL_STATE;
  if (!r && s->capture == CU_STREAM_CAPTURE_STATUS_INVALIDATED) {
    r = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    s->module->alive = false;
    *graph = NULL;
  } else if (!r) {
    *graph = (CUgraph)s->module;
  }
  if (s)
    s->capture = CU_STREAM_CAPTURE_STATUS_NONE;
  FINISH("%s", "");
}

CUresult CUDAAPI cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags) {
  START("cuGraphInstantiateWithFlags", true);
  NEED(exec);
  struct Handle *g = checked(&r, graph, GRAPH);
  if (!r) {
    struct Handle *e = make(EXEC);
    for (struct Op *op = g->first; op; op = op->next)
      append(e, *op);
    *exec = (CUgraphExec)e;
  }
  FINISH("\"flags\": %llu", flags);
}

CUresult CUDAAPI cuGraphLaunch(CUgraphExec exec, CUstream stream) {
  START("cuGraphLaunch", true);
  struct Handle *e = checked(&r, exec, EXEC), *s = streamOf(&r, stream);
  for (struct Op *op = e ? e->first : NULL; op && !r; op = op->next)
    r = submit(s, *op);
  FINISH("\"nodes\": %llu", e ? (unsigned long long)e->submitted : 0);
}

CUresult CUDAAPI cuGraphDestroy(CUgraph graph) {
  START("cuGraphDestroy", true);
  struct Handle *g = checked(&r, graph, GRAPH);
  if (!r)
    g->alive = false;
  FINISH("%s", "");
}

CUresult CUDAAPI cuGraphExecDestroy(CUgraphExec exec) {
  START("cuGraphExecDestroy", true);
  struct Handle *e = checked(&r, exec, EXEC);
  if (!r)
    e->alive = false;
  FINISH("%s", "");
}

CUresult CUDAAPI cuEventCreate(CUevent *event, unsigned flags) {
  START("cuEventCreate", true);
  NEED(event);
  if (!r) {
    struct Handle *e = make(EVENT);
    e->timing = !(flags & CU_EVENT_DISABLE_TIMING);
    *event = (CUevent)e;
  }
  FINISH("\"flags\": %u", flags);
}

CUresult CUDAAPI cuEventDestroy(CUevent event) {
  START("cuEventDestroy_v2", true);
  struct Handle *e = checked(&r, event, EVENT);
  if (!r)
    e->alive = false;
  FINISH("%s", "");
}

CUresult CUDAAPI cuEventRecord(CUevent event, CUstream stream) {
  START("cuEventRecord", true);
  struct Handle *e = checked(&r, event, EVENT), *s = streamOf(&r, stream);
  if (!r && !(r = submit(s, (struct Op){.kind = RECORD, .event = e}))) {
    e->stream = s, e->when = s->submitted, e->recorded = !s->capture;
  }
  FINISH("%s", "");
}

CUresult CUDAAPI cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags) {
  START("cuStreamWaitEvent", true);
  struct Handle *e = checked(&r, event, EVENT), *s = streamOf(&r, stream);
  if (!r && e->recorded)
    r = submit(s, (struct Op){.kind = WAIT, .event = e});
  FINISH("\"flags\": %u", flags);
}

CUresult CUDAAPI cuEventSynchronize(CUevent event) {
  START("cuEventSynchronize", true);
  struct Handle *e = checked(&r, event, EVENT);
  if (!r && !(r = forbidInCapture()) && e->recorded)
    r = drain(e->stream, e->when);
  FINISH("%s", "");
}

CUresult CUDAAPI cuEventQuery(CUevent event) {
  START("cuEventQuery", true);
  struct Handle *e = checked(&r, event, EVENT);
  if (!r && e->recorded && e->stream->executed < e->when)
    r = CUDA_ERROR_NOT_READY;
  FINISH("%s", "");
}

CUresult CUDAAPI cuEventElapsedTime_v2(float *milliseconds, CUevent start, CUevent end) {
  START("cuEventElapsedTime_v2", true);
  NEED(milliseconds);
  struct Handle *a = checked(&r, start, EVENT), *b = checked(&r, end, EVENT);
  if (!r && (!a->recorded || !b->recorded || !a->timing || !b->timing))
    r = CUDA_ERROR_INVALID_HANDLE;
  if (!r && (a->stream->executed < a->when || b->stream->executed < b->when))
    r = CUDA_ERROR_NOT_READY;
  if (!r)
    *milliseconds = (float)(b->milliseconds - a->milliseconds);
  FINISH("%s", "");
}

#undef cuEventElapsedTime
CUresult CUDAAPI cuEventElapsedTime(float *milliseconds, CUevent start, CUevent end) {
  return cuEventElapsedTime_v2(milliseconds, start, end);
}

// ---- symbols -------------------------------------------------------------------------------------------------------

// The newest form of a function, as the driver of CUDA 13 gives it.
CUresult CUDAAPI cuGetProcAddress(const char *name, void **function, int version, cuuint64_t flags,
                                  CUdriverProcAddressQueryResult *status) {
  START("cuGetProcAddress_v2", false);
  if (r == CUDA_ERROR_NOT_INITIALIZED)
    r = CUDA_SUCCESS;
  NEED(name);
  NEED(function);
  if (!r) {
    char versioned[256];
    Dl_info self;
    void *library = dladdr((void *)&cuInit, &self) ? dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD) : NULL;
    *function = NULL;
    for (const char **suffix = (const char *[]){"_v3", "_v2", "", NULL}; library && *suffix && !*function; ++suffix) {
      snprintf(versioned, sizeof versioned, "%s%s", name, *suffix);
      *function = dlsym(library, versioned);
    }
    if (!*function)
      r = CUDA_ERROR_NOT_FOUND;
    if (status)
      *status = *function ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
  }
  FINISH("\"name\": \"%s\", \"version\": %d, \"flags\": %llu", name ? name : "", version, (unsigned long long)flags);
}
