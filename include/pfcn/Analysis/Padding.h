//===- Padding.h - instances that differ in the size of one dimension --*- C++ -*-===//
//
// Finds products whose instances would be equal but for how many terms they sum, and decides by an
// estimate which of them to pad with zeros to one size. Never rewrites. The rules P1 to P4
// are stated in docs/Rationale.md.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_ANALYSIS_PADDING_H
#define PFCN_ANALYSIS_PADDING_H

#include "pfcn/Analysis/Isomorphism.h"

#include <vector>

namespace mlir::pfcn {

/// Products that sum over `sizes[i]` terms each, to be padded to `size`. Operand 0 or 1 of each is the input, whose
/// last dimension is summed over; see `getFactors`.
struct Padding {
  SmallVector<Operation *> products; // in program order
  SmallVector<int64_t> sizes;
  int64_t size;
  /// The tensor of which the inputs are parts along its last dimension, and where they start; null where each is a
  /// tensor of its own.
  Value whole;
  SmallVector<int64_t> starts;
  /// Where all inputs are one-hot codes: the numbers that they encode.
  SmallVector<Value> codes;
  /// What was chosen, and what it costs.
  std::string reason;
};

struct Paddings {
  std::vector<Padding> chosen;
  /// Where groups of equal size are estimated to be quicker.
  SmallVector<Miss> kept;
};

/// The numbers that a value encodes, one row of zeros and a one each; null where it is no `one_hot`, cast or not.
Value getCodes(Value value);

/// The two tensors that a product multiplies, as operands of it, and the dimension of `weight` that is summed over.
/// That of `input` is its last.
struct Factors {
  OpOperand *input, *weight;
  int64_t weightDim;
};

/// None where the op is no product of an input and a parameter.
std::optional<Factors> getFactors(Operation *op);

/// Whether products of one type sum over several numbers of terms. Without such there are no paddings.
bool haveSeveralSizes(Block &block);

Paddings findPaddings(Block &block);

} // namespace mlir::pfcn

#endif // PFCN_ANALYSIS_PADDING_H
