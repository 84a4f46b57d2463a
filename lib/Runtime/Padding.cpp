//===- Padding.cpp - tensors of several sizes in one, zeros behind them -------------===//

#include "pfcn/Runtime/Padding.h"

#include "pfcn/Runtime/Parallel.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/accumulate.h>

#include <algorithm>
#include <cstring>

namespace pfcn::runtime {

std::vector<int64_t> StackPadding::getShape(at::IntArrayRef stacked, size_t i) const {
  std::vector<int64_t> shape(stacked.begin() + 1, stacked.end());
  if (!isNone())
    shape[dim - 1] = sizes[i];
  return shape;
}

at::Tensor StackPadding::getPart(const at::Tensor &stacked, size_t i) const {
  at::Tensor member = stacked.select(0, static_cast<int64_t>(i));
  return isNone() ? member : member.narrow(dim - 1, 0, sizes[i]);
}

void copyPadded(llvm::ArrayRef<at::Tensor> members, const StackPadding &padding, const at::Tensor &stacked) {
  at::IntArrayRef shape = stacked.sizes();
  int64_t rows = c10::multiply_integers(shape.slice(1, padding.dim - 1));
  auto inner = static_cast<int64_t>(stacked.element_size()) * c10::multiply_integers(shape.slice(padding.dim + 1));
  int64_t rowBytes = shape[padding.dim] * inner;
  bool isPlain = stacked.is_cpu() && stacked.is_contiguous();
  for (size_t i = 0; i < members.size(); ++i) {
    const at::Tensor &member = members[i];
    if (!isPlain || !member.is_cpu() || !member.is_contiguous() || member.is_conj() || member.is_neg()) {
      padding.getPart(stacked, i).copy_(member);
      continue;
    }
    const auto *source = static_cast<const char *>(member.const_data_ptr());
    auto *target = static_cast<char *>(stacked.mutable_data_ptr()) + static_cast<int64_t>(i) * rows * rowBytes;
    int64_t bytes = padding.sizes[i] * inner;
    for (int64_t row = 0; row < rows; ++row)
      std::memcpy(target + row * rowBytes, source + row * bytes, bytes);
  }
}

PaddedParts::PaddedParts(int64_t dim, int64_t size, std::vector<int64_t> from, std::vector<int64_t> own)
    : dim(dim), size(size), starts(std::move(from)), sizes(std::move(own)) {
  indices = at::zeros({static_cast<int64_t>(sizes.size()) * size}, at::kLong);
  int64_t *next = indices.mutable_data_ptr<int64_t>();
  for (size_t i = 0; i < sizes.size(); ++i)
    for (int64_t j = 0; j < sizes[i]; ++j)
      next[static_cast<int64_t>(i) * size + j] = starts[i] + j + 1;
}

/// By torch's operators, which any device has and autograd follows.
at::Tensor PaddedParts::gatherFollowed(const at::Tensor &whole) const {
  std::vector<int64_t> front(2 * (whole.dim() - dim), 0);
  front[front.size() - 2] = 1;
  at::Tensor all = at::constant_pad_nd(whole, front).index_select(dim, indices.to(whole.device()));
  return all.unflatten(dim, {static_cast<int64_t>(sizes.size()), size}).movedim(dim, 0);
}

/// Where the rows of a tensor begin: its innermost dimensions, in elements.
static std::vector<int64_t> getRowOffsets(const at::Tensor &tensor) {
  std::vector<int64_t> offsets{0};
  for (int64_t d = 0; d + 1 < tensor.dim(); ++d) {
    std::vector<int64_t> next;
    next.reserve(offsets.size() * tensor.size(d));
    for (int64_t offset : offsets)
      for (int64_t i = 0; i < tensor.size(d); ++i)
        next.push_back(offset + i * tensor.stride(d));
    offsets = std::move(next);
  }
  return offsets;
}

at::Tensor PaddedParts::gather(const at::Tensor &whole) const {
  bool isFollowed = at::GradMode::is_enabled() && whole.requires_grad();
  if (isFollowed || !whole.is_cpu() || whole.is_conj() || whole.is_neg() || dim != whole.dim() - 1 ||
      whole.stride(dim) != 1)
    return gatherFollowed(whole);
  auto count = static_cast<int64_t>(sizes.size());
  std::vector<int64_t> shape{count};
  shape.insert(shape.end(), whole.sizes().begin(), whole.sizes().end());
  shape.back() = size;
  at::Tensor all = at::empty(shape, whole.options().requires_grad(false));
  std::vector<int64_t> offsets = getRowOffsets(whole);
  auto elementBytes = static_cast<int64_t>(whole.element_size());
  const auto *source = static_cast<const char *>(whole.const_data_ptr());
  auto *target = static_cast<char *>(all.mutable_data_ptr());
  int64_t rowBytes = size * elementBytes;
  // A few rows at a time for all instances: a row may be a page or more, and one instance takes little of it.
  constexpr int64_t tileRows = 16;
  auto rows = static_cast<int64_t>(offsets.size());
  int64_t tiles = (rows + tileRows - 1) / tileRows;
  runTiles(tiles, static_cast<int64_t>(all.nbytes()), /*microseconds=*/0.0, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      int64_t first = tile * tileRows, last = std::min(first + tileRows, rows);
      for (int64_t i = 0; i < count; ++i) {
        char *row = target + (i * rows + first) * rowBytes;
        int64_t bytes = sizes[i] * elementBytes;
        for (int64_t r = first; r < last; ++r, row += rowBytes) {
          std::memcpy(row, source + (offsets[r] + starts[i]) * elementBytes, bytes);
          std::memset(row + bytes, 0, rowBytes - bytes);
        }
      }
    }
  });
  return all;
}

} // namespace pfcn::runtime
