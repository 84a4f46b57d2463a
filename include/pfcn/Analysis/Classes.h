//===- Classes.h - which ops of a model are copies of each other ------*- C++ -*-===//
//
// Ops with one signature are one class. A signature is blind to weights (a parameter is
// its type) and to where an instance's slice starts, and exact in everything else. A class
// of one is a value that instances share, and keeps its identity.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_ANALYSIS_CLASSES_H
#define PFCN_ANALYSIS_CLASSES_H

#include "mlir/IR/Block.h"
#include "mlir/IR/Operation.h"
#include "mlir/IR/Value.h"
#include "llvm/ADT/DenseMap.h"

#include <optional>

namespace mlir::pfcn {

/// A part of a whole tensor along one dimension: a `pfcn.slice` of step 1, or a
/// `pfcn.select` (`size` is -1 then).
struct Part {
  Value whole;
  int64_t dim, size, start;

  bool sameKind(const Part &other) const { return whole == other.whole && dim == other.dim && size == other.size; }
};

/// The part that a slice or select takes, where it is one.
std::optional<Part> getPart(Operation *op);

enum class Role {
  Parameter,
  Constant,
  Part,      ///< one of several parts of a shared value: an operand's access, no op of a body
  Shared,    ///< the only op of its class
  Replicated ///< one of several equal ops: perhaps of an instance
};

struct Node {
  Operation *op;
  Role role = Role::Shared;
  /// The class of a replicated op. Classes of operands have smaller numbers.
  unsigned classId = 0;
  /// Of a `Role::Part`: chains of slices of one dimension are already composed.
  Part part{};
};

/// The ops of a block in program order, each with its role. Near-linear in their number.
class Classes {
public:
  explicit Classes(Block &block);

  llvm::ArrayRef<Node> getNodes() const { return nodes; }
  const Node &operator[](unsigned index) const { return nodes[index]; }
  unsigned getIndex(Operation *op) const { return indices.lookup(op); }
  /// The op that defines `value` in this block, if any.
  std::optional<unsigned> getDefinition(Value value) const;
  /// The ops that define the operands of an op, `kNone` for what comes from outside.
  llvm::ArrayRef<unsigned> getOperands(unsigned index) const {
    return llvm::ArrayRef(operands).slice(firstOperand[index], firstOperand[index + 1] - firstOperand[index]);
  }
  static constexpr unsigned kNone = ~0u;
  unsigned getClassSize(unsigned classId) const { return sizes[classId]; }

private:
  friend class Classifier;

  std::vector<Node> nodes;
  llvm::DenseMap<Operation *, unsigned> indices;
  std::vector<unsigned> sizes;
  std::vector<unsigned> operands, firstOperand;
};

/// Joins of more parts than this belong to no instance; no value of an instance has more
/// consumers of one class.
inline constexpr unsigned kMaxFan = 16;

} // namespace mlir::pfcn

#endif // PFCN_ANALYSIS_CLASSES_H
