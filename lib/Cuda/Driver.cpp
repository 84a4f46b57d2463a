//===- Driver.cpp - the CUDA driver, found when it is first needed ------------------===//

#include "pfcn/Cuda/Driver.h"

#include "Device.h"
#include "Errors.h"

#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringExtras.h"

#include <dlfcn.h>

#include <array>
#include <vector>

using namespace pfcn::cuda;
using llvm::Error;
using llvm::Expected;

//===----------------------------------------------------------------------------===//
// The library
//===----------------------------------------------------------------------------===//

namespace {
/// What is looked up once. Nothing of it is ever destroyed: the driver may be gone before static objects are.
struct Library {
  std::mutex mutex;
  Api api;
  bool isReady = false;
  std::vector<std::unique_ptr<Device>> devices;
};
} // namespace

static Library &getLibrary() {
  static auto *library = new Library();
  return *library;
}

static Error findFunctions(Api &api) {
  void *handle = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (!handle) {
    const char *reason = dlerror();
    return llvm::make_error<CudaError>(
        "CUDA_DRIVER_NOT_FOUND", std::string("libcuda.so.1 cannot be loaded: ") + (reason ? reason : "unknown reason"),
        "install NVIDIA's driver (in a container: start it with --gpus all), or put the folder of libcuda.so.1 on "
        "LD_LIBRARY_PATH; device=\"cpu\" needs none");
  }
  auto find = [&](auto &function, const char *symbol) -> Error {
    function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(handle, symbol));
    if (function)
      return Error::success();
    return llvm::make_error<CudaError>("CUDA_DRIVER_TOO_OLD", std::string("libcuda.so.1 has no function ") + symbol,
                                       "update NVIDIA's driver: pfcn needs that of CUDA 11.1 or newer");
  };
#define PFCN_CUDA_FUNCTION(name, symbol, ...)                                                                          \
  if (Error error = find(api.name, symbol))                                                                            \
    return error;
#include "pfcn/Cuda/Functions.def"
  return Error::success();
}

/// PTX 7.1 is the oldest that kernels are written in.
static constexpr int oldestVersion = 11010;

static Error initialize(const Api &api) {
  if (int result = api.init(0))
    return makeError(api, result, "CUDA cannot be initialized");
  int version = 0;
  if (int result = api.getVersion(&version))
    return makeError(api, result, "the driver does not tell its version");
  if (version >= oldestVersion)
    return Error::success();
  std::string has = std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
  return llvm::make_error<CudaError>("CUDA_DRIVER_TOO_OLD", "the driver is that of CUDA " + has,
                                     "update NVIDIA's driver: pfcn needs that of CUDA 11.1 or newer");
}

Expected<Device *> pfcn::cuda::getDevice(int ordinal) {
  Library &library = getLibrary();
  std::lock_guard<std::mutex> lock(library.mutex);
  if (!library.isReady) {
    if (Error error = findFunctions(library.api))
      return error;
    if (Error error = ::initialize(library.api))
      return error;
    library.isReady = true;
  }
  int count = 0;
  if (int result = library.api.getDeviceCount(&count))
    return makeError(library.api, result, "the devices cannot be counted");
  if (count == 0)
    return makeError(library.api, /*CUDA_ERROR_NO_DEVICE=*/100, "there is no CUDA device");
  if (ordinal < 0 || ordinal >= count)
    return makeError(library.api, /*CUDA_ERROR_INVALID_DEVICE=*/101,
                     "there is no device cuda:" + std::to_string(ordinal) + " among " + std::to_string(count));
  library.devices.resize(std::max<size_t>(library.devices.size(), count));
  std::unique_ptr<Device> &slot = library.devices[ordinal];
  if (!slot) {
    auto device = std::make_unique<Device>(library.api, ordinal);
    if (Error error = device->initialize())
      return error;
    slot = std::move(device);
  }
  return slot.get();
}

//===----------------------------------------------------------------------------===//
// Devices
//===----------------------------------------------------------------------------===//

/// Chips that LLVM and ptxas both know, and that differ in what PTX they take.
static constexpr std::array<int, 11> chips = {75, 80, 86, 87, 89, 90, 100, 103, 110, 120, 121};

std::string pfcn::cuda::chooseChip(int major, int minor) {
  std::string best;
  for (int chip : chips)
    if (chip <= major * 10 + minor)
      best = "sm_" + std::to_string(chip);
  return best;
}

Device::Device(const Api &api, int ordinal) : api(api), ordinal(ordinal), state(std::make_unique<State>()) {}
Device::~Device() = default;

Error Device::check(int result, const char *what, llvm::StringRef details) const {
  if (result == 0)
    return Error::success();
  return makeError(api, result, "cuda:" + std::to_string(ordinal) + ": " + what + details.str());
}

Device::Scope::Scope(const Device &device) : device(device) {
  void *current = nullptr;
  // Most calls come from a thread on which torch has made the context current already.
  if (device.api.getCurrentContext(&current) == 0 && current == device.context)
    return;
  result = device.api.pushContext(device.context);
  isPushed = result == 0;
}

Device::Scope::~Scope() {
  void *popped;
  if (isPushed)
    device.api.popContext(&popped);
}

Error Device::initialize() {
  int device = 0;
  if (Error error = check(api.getDevice(&device, ordinal), "the device cannot be opened"))
    return error;
  std::array<char, 256> text = {};
  if (Error error = check(api.getDeviceName(text.data(), text.size() - 1, device), "the device has no name"))
    return error;
  name = text.data();
  constexpr int majorAttribute = 75, minorAttribute = 76;
  int major = 0, minor = 0;
  const char *what = "the device does not tell its compute capability";
  if (Error error = check(api.getDeviceAttribute(&major, majorAttribute, device), what))
    return error;
  if (Error error = check(api.getDeviceAttribute(&minor, minorAttribute, device), what))
    return error;
  chip = chooseChip(major, minor);
  if (chip.empty())
    return llvm::make_error<CudaError>(
        "CUDA_DEVICE_TOO_OLD", name + " has compute capability " + std::to_string(major) + "." + std::to_string(minor),
        "pfcn needs 7.5 or newer; use device=\"cpu\"");
  if (Error error = check(api.retainContext(&context, device), "the device's context cannot be made"))
    return error;
  Scope scope(*this);
  if (Error error = check(scope.result, "the device's context cannot be made current"))
    return error;
  constexpr unsigned nonBlocking = 1; // independent of the legacy default stream
  return check(api.createStream(&stream, nonBlocking), "a stream cannot be made");
}

//===----------------------------------------------------------------------------===//
// Images and launches
//===----------------------------------------------------------------------------===//

/// The module of an image. The driver's own compiler writes its complaints into `log`.
static int loadModule(const Api &api, const std::string &image, void *&module, std::string &log) {
  constexpr int errorLog = 5, errorLogSize = 6;
  std::vector<char> text(16384);
  std::array<int, 2> options = {errorLog, errorLogSize};
  std::array<void *, 2> values = {text.data(), reinterpret_cast<void *>(text.size() - 1)};
  int result = api.loadModule(&module, image.c_str(), options.size(), options.data(), values.data());
  log = llvm::StringRef(text.data()).rtrim().str();
  return result;
}

Expected<Function> Device::load(llvm::StringRef image, llvm::StringRef kernel) {
  std::lock_guard<std::mutex> lock(state->imagesMutex);
  Scope scope(*this);
  if (Error error = check(scope.result, "the device's context cannot be made current"))
    return error;
  // By content: two plans with the same kernels share one module.
  auto [found, isNew] = state->images.try_emplace(image.str(), nullptr);
  void *&module = found->second;
  if (isNew) {
    std::string log;
    int result = loadModule(api, found->first, module, log);
    if (result != 0) {
      state->images.erase(found);
      return check(result, "the kernels cannot be loaded", log.empty() ? "" : ":\n" + log);
    }
  }
  Function function = nullptr;
  if (Error error = check(api.getFunction(&function, module, kernel.str().c_str()), "the image lacks kernel ", kernel))
    return error;
  return function;
}

Error Device::launch(Function function, llvm::StringRef kernel, Extent grid, Extent block, void **arguments,
                     void *onStream) {
  Scope scope(*this);
  if (Error error = check(scope.result, "the device's context cannot be made current"))
    return error;
  int result = api.launchKernel(function, grid.x, grid.y, grid.z, block.x, block.y, block.z, /*sharedBytes=*/0,
                                onStream, arguments, /*extra=*/nullptr);
  // No message is made where none is needed: this is the fast path.
  return result == 0 ? Error::success() : check(result, "launching failed of kernel ", kernel);
}
