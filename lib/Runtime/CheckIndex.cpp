//===- CheckIndex.cpp - pfcn::check_index ------------------------------------------===//
//
// An operator of torch's dispatcher, so that groups call it as they call any foreign operator.
//
//===----------------------------------------------------------------------------===//

#include <ATen/Functions.h>
#include <ATen/TensorIterator.h>
#include <ATen/functorch/BatchedTensorImpl.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

namespace pfcn::runtime {

namespace {

/// A row of indices, and the last index that each may be. Strides in elements.
struct Row {
  const int64_t *indices, *lasts;
  int64_t stride, lastStride, count;
};

/// The first index that is out of bounds.
std::optional<int64_t> findBad(const Row &row, std::optional<int64_t> ignored) {
  for (int64_t i = 0; i < row.count; ++i) {
    int64_t index = row.indices[i * row.stride], last = row.lasts[i * row.lastStride];
    if ((index < 0 || index > last) && index != ignored)
      return index;
  }
  return std::nullopt;
}

/// Whether any is, as a loop on vectors. A negative index is a huge one without its sign.
bool hasBad(const int64_t *indices, int64_t last, int64_t count) {
  bool any = false;
  for (int64_t i = 0; i < count; ++i)
    any |= static_cast<uint64_t>(indices[i]) > static_cast<uint64_t>(last);
  return any;
}

[[noreturn]] void fail(int64_t index, c10::string_view operatorName) {
  if (operatorName == "aten::one_hot") {
    TORCH_CHECK(index >= 0, "Class values must be non-negative.");
    TORCH_CHECK(false, "Class values must be smaller than num_classes.");
  }
  TORCH_CHECK_INDEX(operatorName != "aten::embedding", "index out of range in self");
  TORCH_CHECK_INDEX(false, "Target ", index, " is out of bounds.");
}

/// Bounds of each instance, for indices that have `rank` dimensions.
at::Tensor alignDims(at::Tensor last, int64_t rank) {
  while (last.dim() > 0 && last.dim() < rank)
    last = last.unsqueeze(-1);
  return last;
}

/// The same for tensors where no number can be looked at without waiting for the device.
void checkOnDevice(const at::Tensor &indices, const at::Tensor &last, std::optional<int64_t> ignored,
                   c10::string_view operatorName) {
  at::Tensor bounds = alignDims(last, indices.dim()).to(indices.device());
  at::Tensor isGood = at::logical_and(indices.ge(0), indices.le(bounds));
  if (ignored)
    isGood = at::logical_or(isGood, indices.eq(*ignored));
  at::_assert_async(isGood.all(), std::string(operatorName) + ": an index is out of bounds");
}

at::Tensor checkIndex(const at::Tensor &indices, const at::Tensor &last, c10::string_view operatorName,
                      std::optional<int64_t> ignored) {
  if (indices.is_meta() || indices.numel() == 0)
    return indices;
  if (!indices.is_cpu()) {
    checkOnDevice(indices, last, ignored, operatorName);
    return indices;
  }
  at::Tensor elements = indices.to(at::kLong);
  auto iterator = at::TensorIteratorConfig()
                      .add_owned_const_input(elements)
                      .add_owned_const_input(alignDims(last, elements.dim()).expand_as(elements))
                      .build();
  iterator.serial_for_each(
      [&](char **data, const int64_t *strides, int64_t count) {
        constexpr auto size = static_cast<int64_t>(sizeof(int64_t));
        Row row{reinterpret_cast<const int64_t *>(data[0]), reinterpret_cast<const int64_t *>(data[1]),
                strides[0] / size, strides[1] / size, count};
        bool isPlain = row.stride == 1 && row.lastStride == 0 && *row.lasts >= 0;
        if (isPlain && !hasBad(row.indices, *row.lasts, count))
          return;
        if (std::optional<int64_t> bad = findBad(row, ignored))
          fail(*bad, operatorName);
      },
      {0, elements.numel()});
  return indices;
}

/// All instances at once: dimension 0 is theirs.
at::Tensor checkIndexOfInstances(const at::Tensor &indices, const at::Tensor &last, c10::string_view operatorName,
                                 std::optional<int64_t> ignored) {
  auto *batch = at::functorch::maybeGetBatchedImpl(indices), *batchOfLast = at::functorch::maybeGetBatchedImpl(last);
  c10::impl::ExcludeDispatchKeyGuard guard(c10::DispatchKey::FuncTorchBatched);
  at::Tensor bounds = batchOfLast ? batchOfLast->value() : last;
  if (!batch) // one set of indices for bounds of each instance's own
    return checkIndex(indices, bounds.min(), operatorName, ignored);
  checkIndex(batch->value().movedim(batch->bdim(), 0), bounds, operatorName, ignored);
  return indices;
}

} // namespace

TORCH_LIBRARY(pfcn, library) {
  library.def("check_index(Tensor indices, Tensor last, str operator, int? ignored=None) -> Tensor");
}

TORCH_LIBRARY_IMPL(pfcn, CompositeExplicitAutograd, library) { library.impl("check_index", checkIndex); }

TORCH_LIBRARY_IMPL(pfcn, FuncTorchBatched, library) { library.impl("check_index", checkIndexOfInstances); }

} // namespace pfcn::runtime
