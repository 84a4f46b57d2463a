//===- MmaSchedule.h - whether a kernel runs on tensor cores, and how ------*- C++ -*-===//

#ifndef PFCN_CODEGEN_MMASCHEDULE_H
#define PFCN_CODEGEN_MMASCHEDULE_H

#include "pfcn/Codegen/Product.h"

namespace mlir::pfcn {

struct MmaSchedule {
  /// Rows of the batch below which threads multiply by themselves.
  static constexpr int64_t fewestRows = 8;
  /// Of the 255 registers of a thread, beside addresses and what is on its way, which is more where it comes element by
  /// element. Found by what ptxas makes of kernels of all kinds.
  static constexpr int64_t mostRegisters = 80;
  /// Instructions that multiply: all loops over features are unrolled.
  static constexpr int64_t mostProducts = 2048;

  /// The lanes are the rows of a warp.
  Schedule schedule;
  int64_t warps;
  /// The elements that are multiplied.
  Type element;
  /// Estimated cycles of all warps together: on tensor cores, and where each thread multiplies by itself.
  double cost, threadCost;
  /// Of a thread, that hold values of the body at once.
  int64_t registers;

  /// Whether they leave no room for the weights of a whole product.
  bool hasManyValues() const { return registers > 48; }

  /// Fails, with the reason, where the body is no chain of products that fits the registers of a warp, and where it
  /// would not be faster.
  static FailureOr<MmaSchedule> choose(KernelOp kernel, const ParallelDims &dims, const TensorCores &cores,
                                       std::string &reason);
};

/// Whether a body has products that tensor cores could multiply.
bool hasProducts(Block &body, const TensorCores &cores);

} // namespace mlir::pfcn

#endif // PFCN_CODEGEN_MMASCHEDULE_H
