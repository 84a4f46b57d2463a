//===- Errors.cpp - what to do about an error of the CUDA driver -------------------===//

#include "Errors.h"

using namespace pfcn::cuda;

char CudaError::ID = 0;

void CudaError::log(llvm::raw_ostream &stream) const { stream << name << ": " << what << "\n  remedy: " << remedy; }

namespace {
struct Remedy {
  int result;
  const char *text;
};
} // namespace

// The numbers are part of the driver's interface (CUresult in cuda.h).
static constexpr Remedy remedies[] = {
    {2, "free device memory (of other processes too: see nvidia-smi), or use a smaller batch or fewer instances"},
    {3, "a process that was forked cannot use CUDA: start workers with the spawn method"},
    {4, "the process is ending; finish work on the GPU before"},
    {34, "this libcuda.so.1 is a stub for linking: take the folder of stubs out of LD_LIBRARY_PATH"},
    {46, "another process holds the device alone: see nvidia-smi, or ask for the compute mode Default"},
    {100, "no GPU is visible: see nvidia-smi, and CUDA_VISIBLE_DEVICES"},
    {101, "there is no device of that number: see nvidia-smi -L, and CUDA_VISIBLE_DEVICES"},
    {200, "the image is not for this device: set PFCN_CUDA_IMAGE=ptx, so that the driver compiles for it"},
    {209, "the image is not for this device: set PFCN_CUDA_IMAGE=ptx, so that the driver compiles for it"},
    {218, "report it, with what PFCN_LOG=ir prints"},
    {221, "the driver's compiler (libnvidia-ptxjitcompiler.so.1) is missing: install it, or set PFCN_CUDA_IMAGE=cubin"},
    {222, "the driver is older than the PTX: update it, or set PFCN_CUDA_IMAGE=cubin and install ptxas "
          "(pip install nvidia-cuda-nvcc)"},
    {700, "report it, with what PFCN_LOG=ir prints; restart the process, for the device's context is lost"},
    {701, "report it, with what PFCN_LOG=ir prints"},
    {702, "the kernel ran longer than the display's watchdog allows: use a GPU without a display"},
    {716, "report it, with what PFCN_LOG=ir prints; restart the process, for the device's context is lost"},
    {719, "report it, with what PFCN_LOG=ir prints; restart the process, for the device's context is lost"},
    {803, "driver and kernel module are of different versions: reboot, or reinstall the driver"},
    {804, "this device needs a driver as new as its CUDA: update the driver"},
    {900, "call the model once before torch.cuda.graph captures it"},
    {901, "call the model once before torch.cuda.graph captures it"},
    {906, "call the model once before torch.cuda.graph captures it"},
};

static std::string findRemedy(int result) {
  for (const Remedy &remedy : remedies)
    if (remedy.result == result)
      return remedy.text;
  return "see the driver's log (dmesg, nvidia-smi); if the device is well, report it with what PFCN_LOG=ir prints";
}

llvm::Error pfcn::cuda::makeError(const Api &api, int result, const std::string &what) {
  const char *name = nullptr, *text = nullptr;
  if (api.getErrorName(result, &name) != 0 || !name)
    name = nullptr; // a number that this driver does not know
  if (api.getErrorString(result, &text) != 0)
    text = nullptr;
  std::string message = what;
  if (text)
    message += std::string(": ") + text;
  return llvm::make_error<CudaError>(name ? name : "CUDA error " + std::to_string(result), std::move(message),
                                     findRemedy(result));
}
