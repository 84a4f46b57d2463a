// What needs no driver; the rest is tested on the fake one, in test/gpu.

#include "pfcn/Cuda/Driver.h"
#include "pfcn/Cuda/Images.h"

#include <gtest/gtest.h>

#include <cstdlib>

using namespace pfcn::cuda;

namespace {

TEST(Driver, ChipsAreNeverNewerThanTheDevice) {
  EXPECT_EQ(chooseChip(7, 0), "");
  EXPECT_EQ(chooseChip(7, 5), "sm_75");
  EXPECT_EQ(chooseChip(8, 0), "sm_80");
  EXPECT_EQ(chooseChip(8, 8), "sm_87");
  EXPECT_EQ(chooseChip(9, 0), "sm_90");
  EXPECT_EQ(chooseChip(9, 9), "sm_90");
  EXPECT_EQ(chooseChip(10, 3), "sm_103");
  EXPECT_EQ(chooseChip(12, 0), "sm_120");
  EXPECT_EQ(chooseChip(99, 0), "sm_121");
}

TEST(Driver, TheImageIsOneOfTwoKinds) {
  unsetenv("PFCN_CUDA_IMAGE");
  EXPECT_EQ(llvm::cantFail(getImageKind()), ImageKind::Ptx);
  setenv("PFCN_CUDA_IMAGE", "cubin", 1);
  EXPECT_EQ(llvm::cantFail(getImageKind()), ImageKind::Cubin);
  setenv("PFCN_CUDA_IMAGE", "fatbin", 1);
  EXPECT_EQ(llvm::toString(getImageKind().takeError()), "PFCN_CUDA_IMAGE is ptx or cubin, not 'fatbin'");
  unsetenv("PFCN_CUDA_IMAGE");
}

TEST(Driver, AnErrorSaysWhatToDo) {
  std::string text = llvm::toString(llvm::make_error<CudaError>("CUDA_ERROR_X", "this failed", "do that"));
  EXPECT_EQ(text, "CUDA_ERROR_X: this failed\n  remedy: do that");
}

} // namespace
