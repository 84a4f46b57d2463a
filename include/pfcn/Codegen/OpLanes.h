//===- OpLanes.h - lanes that each op chooses for itself -----------------*- C++ -*-===//
//
// Where neither the instances nor the batch fill a register, or scratch for as many of them as there are lanes would
// not fit the caches, each op has one of its own loops across the lanes: a convolution its output channels, say. A
// value then lies in scratch with that dimension innermost, where the next op reads it element by element.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_CODEGEN_OPLANES_H
#define PFCN_CODEGEN_OPLANES_H

#include "pfcn/Codegen/ParallelDims.h"
#include "pfcn/Dialect/Pfcn.h"

namespace mlir::pfcn {

struct Schedule;

class OpLanes {
public:
  struct Choice {
    static constexpr unsigned none = -1u;
    unsigned loop = none;
    int64_t lanes = 1;
  };

  /// Walks the body of a kernel. Fails where an op of it has no such form.
  static FailureOr<OpLanes> choose(KernelOp kernel, const ParallelDims &dims, const Schedule &schedule, int64_t width);

  Choice get(linalg::GenericOp op) const { return choices.lookup(op); }
  /// Whether the terms of the sums that an op makes lie across the lanes.
  bool isFolded(linalg::GenericOp op) const;
  /// The dimension of a value that is innermost in scratch, or -1.
  int64_t getInnermostDim(Value value) const {
    auto it = innermost.find(value);
    return it == innermost.end() ? -1 : it->second;
  }
  /// Whether an argument is brought into scratch with another dimension innermost.
  bool isPacked(Value argument) const { return packed.contains(argument); }
  /// The dimension that an op needs innermost of an operand, which is turned for it alone, or -1.
  int64_t getTurnedDim(OpOperand &operand) const {
    auto it = turned.find(&operand);
    return it == turned.end() ? -1 : it->second;
  }

  /// Vector operations of what is done once for an instance, and of what is done for each point of the outer loops.
  double getCostPerTile() const { return perTile; }
  double getCostPerPoint() const { return perPoint; }

  /// Lanes of a whole register.
  int64_t getWidth() const { return width; }

private:
  friend class LaneChooser;

  int64_t width = 1;
  llvm::DenseMap<Operation *, Choice> choices;
  /// -1 where no dimension has neighbours in memory; splats have no entry.
  llvm::DenseMap<Value, int64_t> innermost;
  llvm::DenseSet<Value> packed;
  llvm::DenseMap<OpOperand *, int64_t> turned;
  double perTile = 0, perPoint = 0;
};

/// By how much the place of a tensor's element moves, in units of its dimensions' strides, per step of a loop: one
/// number per dimension. None where that is no constant.
std::optional<SmallVector<int64_t>> getSteps(AffineMap map, unsigned loop);

/// Vector operations that the payload of an op takes once.
double estimatePayload(linalg::GenericOp op);

} // namespace mlir::pfcn

#endif // PFCN_CODEGEN_OPLANES_H
