//===- Launch.h - calling a compiled kernel on torch tensors -------------*- C++ -*-===//
//
// A kernel takes a range of tiles and one strided memref per tensor: the tensor under its
// access, instances first. All that does not change from call to call is computed once.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_RUNTIME_LAUNCH_H
#define PFCN_RUNTIME_LAUNCH_H

#include "pfcn/Dialect/Pfcn.h"
#include "pfcn/Runtime/Plan.h"

#include "mlir/IR/BuiltinTypes.h"

namespace pfcn::runtime {

/// How a group sees one of its tensors.
struct Access {
  Access(mlir::pfcn::AccessAttr attribute, int64_t count);

  /// Whether all instances are one strided view. Tables of starts and descending
  /// starts, which torch has no view for, are gathered and scattered instead.
  bool isView() const { return isShared || (table.empty() && stride >= 0); }
  /// Whether a kernel can walk it: descending starts are one more stride to it.
  bool isAffine() const { return isShared || table.empty(); }
  int64_t getStart(int64_t instance) const { return table.empty() ? offset + instance * stride : table[instance]; }

  /// What one instance sees.
  at::Tensor getInstance(const at::Tensor &whole, int64_t instance) const;
  /// What all see: instances first, in place where there is such a view, else a copy.
  at::Tensor getAll(const at::Tensor &whole) const;
  /// Writes what all instances have computed, instances first.
  void store(const at::Tensor &whole, const at::Tensor &all) const;
  /// Adds it, which instances may overlap for.
  void accumulate(const at::Tensor &whole, const at::Tensor &all) const;

  /// Of all elements of all instances along `dim`.
  at::Tensor makeIndices() const;

  bool isShared, isSelect;
  int64_t count, dim, size, stride, offset;
  std::vector<int64_t> table;
  /// The same where there is no view, for which they are always needed.
  at::Tensor indices;
};

/// One memref argument of a kernel.
struct LaunchOperand {
  Access access;
  /// Of the kernel's memref type; `ShapedType::kDynamic` where it takes any.
  std::vector<int64_t> sizes, strides;
  int64_t offset;

  /// The view of all instances on `whole`, `start` elements behind its first; false where it is not of the kernel's
  /// type.
  bool describe(const at::Tensor &whole, llvm::SmallVectorImpl<int64_t> &sizes,
                llvm::SmallVectorImpl<int64_t> &viewStrides, int64_t &start) const;
};

/// The operand of a kernel that takes it as this memref.
LaunchOperand makeOperand(mlir::pfcn::AccessAttr access, int64_t count, mlir::Type type);

class Launch {
public:
  /// `type` is the signature of the kernel's function: (index, index, memrefs...).
  Launch(mlir::pfcn::LaunchOp op, mlir::FunctionType type, Kernel kernel);

  /// Runs all tiles, on torch's threads where that pays. `tensors`: inputs, then destinations.
  void run(TensorRange tensors) const;

private:
  Kernel kernel;
  int64_t tiles;
  /// Estimated for one thread.
  double microseconds = 0;
  size_t inputCount;
  std::vector<LaunchOperand> operands;
  /// Dynamic sizes that the kernel takes to be equal: [operand, dimension] pairs in a row.
  std::vector<std::vector<int64_t>> equalSizes;
};

} // namespace pfcn::runtime

#endif // PFCN_RUNTIME_LAUNCH_H
