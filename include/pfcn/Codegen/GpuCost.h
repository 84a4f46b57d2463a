//===- GpuCost.h - what a group costs on a GPU, fused or not --------------*- C++ -*-===//
//
// Estimates, in microseconds, from a chip's data sheet. They choose between one kernel for a group, a kernel for each
// of its layers, and cuBLAS through torch for its matrix products; only their ratios matter.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_CODEGEN_GPUCOST_H
#define PFCN_CODEGEN_GPUCOST_H

#include "pfcn/Codegen/Product.h"

namespace mlir::pfcn {

/// One product of a compute capability.
struct GpuChip {
  StringRef product;
  double multiprocessors, ghz;
  /// GB/s of its memory.
  double bandwidth;
  /// Multiply-adds of a multiprocessor in a cycle: f32, f64, and 16-bit elements on tensor cores.
  double fma, fma64, tensorFma;
  /// What starting a kernel takes, and a call of a torch function that starts one.
  double launch = 4, call = 8;
  /// What its tensor cores may multiply.
  TensorCores tensorCores = {};

  /// Of a chip named as in sm_90; the data of an unknown one are taken for its, but it has no tensor cores.
  static GpuChip of(StringRef chip, bool allowTf32);

  /// Multiply-adds of a multiprocessor in a cycle.
  double getThreadRate(Type element) const { return element.isF64() ? fma64 : fma; }
  double getTensorRate(Type element) const { return element.isF32() ? tensorFma / 2 : tensorFma; }
};

/// A part of a body, in order.
struct Piece {
  enum Kind {
    /// A kernel of ours.
    Kernel,
    /// One matrix product, which torch gives to cuBLAS.
    Call,
    /// A product whose result is one of the group: torch computes it and copies it to where it belongs.
    CopiedCall
  };
  SmallVector<Operation *> ops;
  Kind kind = Kernel;
};

/// `Auto`: what is estimated to be fastest. The others force one kernel, kernels only, or cuBLAS for every product.
enum class GpuStrategy { Auto, Fused, Layers, Library };

/// What may become of a group, and what each is estimated to take.
struct GpuPlan {
  /// A kernel or calls for each layer; empty where the body is no chain of layers.
  SmallVector<Piece> layers;
  double fused = 0, split = 0;
  bool isSplit = false;
};

/// Whether an op is a product that cuBLAS may take: no convolution.
bool isMatrixProduct(Operation *op);

/// `libraryAllowed`: tensors are where cuBLAS finds them.
GpuPlan planForGpu(KernelOp kernel, const GpuChip &chip, GpuStrategy strategy, bool libraryAllowed);

} // namespace mlir::pfcn

#endif // PFCN_CODEGEN_GPUCOST_H
