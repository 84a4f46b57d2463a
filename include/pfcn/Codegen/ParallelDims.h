//===- ParallelDims.h - the dimensions that a whole kernel shares -------*- C++ -*-===//
//
// Dimensions of the values and loops of a region of linalg ops fall into classes: two are in
// one class where an op walks them with the same loop. A class that no op reduces, slices or
// merges is parallel through the whole region; the code generator can tile it outermost. So it can one that ops only
// reduce, if it keeps the accumulators.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_CODEGEN_PARALLELDIMS_H
#define PFCN_CODEGEN_PARALLELDIMS_H

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "llvm/ADT/DenseMap.h"

namespace mlir::pfcn {

/// What an op reads: its operands, and what its regions read of what is outside.
SmallVector<Value> getReads(Operation *op);

class ParallelDims {
public:
  /// Walks the ops of `body`. Fails, with the reason in `reason`, at an op it does not know.
  static FailureOr<ParallelDims> compute(Block &body, std::string &reason);

  /// The class of a dimension of a value, or of a loop of a generic.
  int getClass(Value value, int64_t dim) const { return find(valueDims.lookup(value)[dim]); }
  int getClass(linalg::GenericOp op, unsigned loop) const { return find(loops.lookup(op)[loop]); }

  /// Whether nothing in the region depends on two elements of the class at once.
  bool isParallel(int cls) const { return !broken[find(cls)] && !reduced[find(cls)]; }
  /// Whether nothing but reductions do.
  bool isReducedOnly(int cls) const { return !broken[find(cls)] && reduced[find(cls)]; }
  /// The common size, or kDynamic.
  int64_t getSize(int cls) const { return sizes[find(cls)]; }

private:
  int find(int id) const;
  int create(int64_t size);
  void unite(int a, int b);
  void markBroken(int id) { broken[find(id)] = true; }
  SmallVector<int> &dimsOf(Value value);
  LogicalResult visit(Block &block, std::string &reason);
  LogicalResult visit(Operation *op, std::string &reason);
  void visitReassociation(Value wide, Value narrow, ArrayRef<SmallVector<int64_t, 2>> groups);
  void visitSubset(Value whole, Value part, ArrayRef<OpFoldResult> offsets, ArrayRef<OpFoldResult> sizes,
                   ArrayRef<OpFoldResult> strides, const llvm::SmallBitVector &dropped);

  mutable SmallVector<int> parents;
  SmallVector<bool> broken, reduced;
  SmallVector<int64_t> sizes;
  DenseMap<Value, SmallVector<int>> valueDims;
  DenseMap<Operation *, SmallVector<int>> loops;
};

} // namespace mlir::pfcn

#endif // PFCN_CODEGEN_PARALLELDIMS_H
