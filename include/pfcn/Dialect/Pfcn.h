//===- Pfcn.h - the pfcn dialect --------------------------------------*- C++ -*-===//
//
// Ops, attributes and the interfaces (batching, gradients) of the dialect in which models are
// imported, grouped and batched.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_DIALECT_PFCN_H
#define PFCN_DIALECT_PFCN_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/TypeUtilities.h"
#include "mlir/Interfaces/ControlFlowInterfaces.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

namespace mlir::pfcn {

/// The type of a value that is a ranked tensor, as all values of the dialect's ops are.
inline RankedTensorType ranked(Value value) { return cast<RankedTensorType>(value.getType()); }

/// Whether a gradient may be a value's: it has elements of floating point.
inline bool isFloat(Value value) { return isa<FloatType>(ranked(value).getElementType()); }

/// How an operand of a group varies with the instance; see `AccessAttr`.
enum class AccessKind { Shared, Slice, Select };

inline llvm::hash_code hash_value(AccessKind kind) { return llvm::hash_value(static_cast<int>(kind)); }

/// An operand of an op that is being batched: whether it carries the instances in its
/// leading dimension.
struct BatchedValue {
  Value value;
  bool batched;

  RankedTensorType getType() const { return cast<RankedTensorType>(value.getType()); }
  /// The rank that one instance sees.
  int64_t getBodyRank() const { return getType().getRank() - (batched ? 1 : 0); }
};

/// Of ops that compute each element of the result from the elements at its place, after broadcasting.
template <typename Op> class Pointwise : public OpTrait::TraitBase<Op, Pointwise> {};

/// How many leading dimensions a reshape carries over one by one: as many as are equal and leave
/// equal numbers of elements behind them; nothing where the sizes do not follow from each
/// other. ([?, 6, 4] to [?, 4] carries over none: its first size is 6 times the input's.)
std::optional<int64_t> countCarriedDims(ArrayRef<int64_t> from, ArrayRef<int64_t> to);

/// `end` of a `pfcn.slice` that reaches the end of a dynamic dimension.
inline constexpr int64_t kSliceToEnd = std::numeric_limits<int64_t>::max();

/// On an op of a body whose gradient may not be that of the operator that it is a part of.
inline constexpr llvm::StringLiteral roughAttrName = "pfcn.rough";

/// On a stack of weights that are padded: why, and what it costs, as text.
inline constexpr llvm::StringLiteral paddingAttrName = "pfcn.padding";

/// On a group that a pass left as it was: why, as text.
inline constexpr llvm::StringLiteral declinedAttrName = "pfcn.declined";
/// On what a group became: what else it could have been, and why it is not.
inline constexpr llvm::StringLiteral choiceAttrName = "pfcn.choice";
/// On a group and on the kernels that it becomes: its number.
inline constexpr llvm::StringLiteral groupNumberAttrName = "pfcn.group_number";

/// On a group: the function that computes one instance, as torch would.
inline constexpr llvm::StringLiteral instanceAttrName = "pfcn.instance";

/// On a call for all instances of a group: the name of the group.
inline constexpr llvm::StringLiteral groupAttrName = "pfcn.group";

/// On a function: for each result behind the model's own, the paths of the parameters and buffers that become what it
/// holds; one of several is a stack of them.
inline constexpr llvm::StringLiteral writesAttrName = "pfcn.writes";

/// On a foreign operator: [result, dimension, operand, its dimension] for sizes of results that are open and known
/// to be an operand's.
inline constexpr llvm::StringLiteral sizesAttrName = "pfcn.sizes";

/// Whether other ops of this kind must not be passed by. (Draws of random numbers may: their order says nothing
/// about their distribution.)
bool keepsOrder(Operation *op);

/// On a group and on what it becomes: the number of its gradient among those of a plan.
inline constexpr llvm::StringLiteral gradientAttrName = "pfcn.gradient";

/// On a group: which inputs need a gradient. On a group, or an op of one: why it has none.
inline constexpr llvm::StringLiteral wantedAttrName = "pfcn.wanted";
inline constexpr llvm::StringLiteral notDifferentiableAttrName = "pfcn.not_differentiable";

} // namespace mlir::pfcn

#include "pfcn/Dialect/PfcnDialect.h.inc"
#include "pfcn/Dialect/PfcnEnums.h.inc"

#include "pfcn/Dialect/BatchingOpInterface.h.inc"
#include "pfcn/Dialect/DifferentiableOpInterface.h.inc"

#define GET_ATTRDEF_CLASSES
#include "pfcn/Dialect/PfcnAttrs.h.inc"

#define GET_OP_CLASSES
#include "pfcn/Dialect/PfcnOps.h.inc"

#endif // PFCN_DIALECT_PFCN_H
