//===- StackedLeaf.h - n parameters that train as one --------------------*- C++ -*-===//
//
// In stacked mode the home of n parameters is a leaf of autograd: optimizers step one tensor instead of
// n. The gradient of each parameter is a view of the stacked gradient, and stays that; what is done to the one is seen
// in the other.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_RUNTIME_STACKEDLEAF_H
#define PFCN_RUNTIME_STACKEDLEAF_H

#include "pfcn/Runtime/Homes.h"

namespace pfcn::runtime {

class StackedLeaf {
public:
  /// `parameter` lies where the members do, and is a leaf that wants a gradient.
  StackedLeaf(at::Tensor parameter, std::vector<WeakTensor> members);

  const at::Tensor &getParameter() const { return parameter; }
  bool isOf(llvm::ArrayRef<at::Tensor> parameters) const;

  /// The stacked gradient after what was done to the members'; undefined where it has been cleared.
  at::Tensor getGrad();
  /// An undefined gradient clears it: the members' are zero then.
  void setGrad(const at::Tensor &value);
  /// Takes what autograd has left as the gradient of the parameter into the memory that members' gradients view.
  void afterAccumulation();
  /// The members have moved to another home.
  void moveTo(const at::Tensor &stacked);
  /// Whether the members are parts of the parameter. Others that came to them, or left, make them move without it.
  bool isAtHome() const;

private:
  void markCleared();

  at::Tensor parameter, gradient;
  std::vector<WeakTensor> members;
  std::vector<at::Tensor> views;
  /// There is no gradient, and the memory of it is all zeros, unless somebody has written to a view since.
  bool isCleared = true;
  int64_t clearedVersion = 0;
};

} // namespace pfcn::runtime

#endif // PFCN_RUNTIME_STACKEDLEAF_H
