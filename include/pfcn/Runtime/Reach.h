//===- Reach.h - from which results gradients flow to a parameter --------*- C++ -*-===//
//
// A network that the loss does not depend on has no gradient in eager, and not one of zeros, which an optimizer would
// decay and move. Groups compute the gradients of all instances together, so this is found out on the model as it was
// recorded, where each instance has ops of its own.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_RUNTIME_REACH_H
#define PFCN_RUNTIME_REACH_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/SparseBitVector.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace pfcn::runtime {

/// For each member of a stack, the results of the model that depend on it; null where all do on all.
using ReachedFrom = std::shared_ptr<const std::vector<llvm::SparseBitVector<>>>;

class Reach {
public:
  explicit Reach(mlir::func::FuncOp forward);

  ReachedFrom ofParameters(const std::vector<std::string> &paths) const;
  ReachedFrom ofInputs(const std::vector<unsigned> &numbers) const;

private:
  using Results = llvm::SparseBitVector<>;
  ReachedFrom collect(std::vector<Results> found) const;

  Results all;
  std::map<std::string, Results> parameters;
  std::vector<Results> inputs;
};

} // namespace pfcn::runtime

#endif // PFCN_RUNTIME_REACH_H
