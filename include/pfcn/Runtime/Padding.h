//===- Padding.h - tensors of several sizes in one, zeros behind them ----*- C++ -*-===//
//
// Copies for groups whose instances differ in the size of one dimension.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_RUNTIME_PADDING_H
#define PFCN_RUNTIME_PADDING_H

#include "llvm/ADT/ArrayRef.h"

#include <ATen/core/Tensor.h>

#include <vector>

namespace pfcn::runtime {

/// Of which dimension of a stack each member has its own size; no sizes where none has.
struct StackPadding {
  int64_t dim = 0;
  std::vector<int64_t> sizes;

  bool isNone() const { return sizes.empty(); }
  /// The shape of member i of a stack of this shape, instances first.
  std::vector<int64_t> getShape(at::IntArrayRef stacked, size_t i) const;
  /// What member i fills of a stack.
  at::Tensor getPart(const at::Tensor &stacked, size_t i) const;
};

/// Copies members to their places in `stacked`, and leaves the rest of it as it is.
void copyPadded(llvm::ArrayRef<at::Tensor> members, const StackPadding &padding, const at::Tensor &stacked);

/// Parts of one tensor along `dim`, stacked: of instance i `sizes[i]` elements, and zeros up to `size`.
class PaddedParts {
public:
  PaddedParts(int64_t dim, int64_t size, std::vector<int64_t> starts, std::vector<int64_t> sizes);

  at::Tensor gather(const at::Tensor &whole) const;

private:
  at::Tensor gatherFollowed(const at::Tensor &whole) const;

  int64_t dim, size;
  std::vector<int64_t> starts, sizes;
  /// Where each element is, one further than it is; 0 for a zero.
  at::Tensor indices;
};

} // namespace pfcn::runtime

#endif // PFCN_RUNTIME_PADDING_H
