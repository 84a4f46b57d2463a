//===- EvaluateWindows.cpp - convolutions and pooling on torch tensors --------------===//
//
// n convolutions with weights of their own are one convolution in n times as many groups; with weights of their
// own on one input, one with n times as many output channels.
//
//===----------------------------------------------------------------------------===//

#include "EvaluateWindows.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

using namespace mlir::pfcn;

namespace pfcn::runtime {

//===----------------------------------------------------------------------------===//
// Convolution
//===----------------------------------------------------------------------------===//

namespace {
struct Conv {
  int64_t spatial, groups;
  std::vector<int64_t> stride, padding, dilation, outputPadding;
  bool isTransposed;

  explicit Conv(ConvOp op)
      : spatial(static_cast<int64_t>(op.getStride().size())), groups(static_cast<int64_t>(op.getGroups())),
        stride(op.getStride().vec()), padding(op.getPadding().vec()), dilation(op.getDilation().vec()),
        outputPadding(op.getOutputPadding().vec()), isTransposed(op.getTransposed()) {
    outputPadding.resize(spatial);
  }

  at::Tensor run(const at::Tensor &input, const at::Tensor &weight, const at::Tensor &bias, int64_t inGroups) const {
    return at::convolution(input, weight, bias, stride, padding, dilation, isTransposed, outputPadding, inGroups);
  }
  at::Tensor runInstances(at::Tensor input, at::Tensor weight, at::Tensor bias, int64_t count) const;
  at::Tensor operator()(const at::Tensor &input, const at::Tensor &weight, const at::Tensor &bias) const;
};
} // namespace

/// Of weights that differ between the instances; the input may be shared, or [count, N, C, *S].
at::Tensor Conv::runInstances(at::Tensor input, at::Tensor weight, at::Tensor bias, int64_t count) const {
  bool isShared = input.dim() == spatial + 2;
  bool sharesChannels = isShared && groups == 1 && !isTransposed;
  if (isShared && !sharesChannels)
    input = input.unsqueeze(0).expand([&] {
      std::vector<int64_t> sizes = input.sizes().vec();
      sizes.insert(sizes.begin(), count);
      return sizes;
    }());
  if (!sharesChannels)
    input = input.transpose(0, 1).flatten(1, 2); // [N, count * C, *S]
  if (bias.defined())
    bias = bias.dim() == 2 ? bias.flatten() : bias.repeat({count});
  at::Tensor result = run(input, weight.flatten(0, 1), bias, sharesChannels ? 1 : groups * count);
  return result.unflatten(1, {count, result.size(1) / count}).transpose(0, 1);
}

at::Tensor Conv::operator()(const at::Tensor &input, const at::Tensor &weight, const at::Tensor &bias) const {
  bool ownBias = bias.defined() && bias.dim() == 2;
  if (weight.dim() > spatial + 2)
    return runInstances(input, weight, bias, weight.size(0));
  // One set of weights: the instances are more samples.
  at::Tensor samples = input.dim() > spatial + 2 ? input.flatten(0, 1) : input;
  at::Tensor result = run(samples, weight, ownBias ? at::Tensor() : bias, groups);
  if (input.dim() > spatial + 2)
    result = result.unflatten(0, {input.size(0), input.size(1)});
  if (!ownBias)
    return result;
  std::vector<int64_t> shape(spatial + 3, 1);
  shape[0] = bias.size(0);
  shape[2] = bias.size(1);
  return result + bias.view(shape);
}

Evaluator makeConvEvaluator(ConvOp op) {
  return [conv = Conv(op)](TensorRange operands) -> TensorVector {
    return {conv(operands[0], operands[1], operands.size() > 2 ? operands[2] : at::Tensor())};
  };
}

//===----------------------------------------------------------------------------===//
// Batch normalisation
//===----------------------------------------------------------------------------===//

/// What each channel has one of, shaped to broadcast against the input.
static at::Tensor alignChannels(const at::Tensor &value, int64_t rank, int64_t channel) {
  std::vector<int64_t> shape(rank, 1);
  shape[channel] = value.size(-1);
  if (value.dim() == 2)
    shape[0] = value.size(0);
  return value.reshape(shape);
}

Evaluator makeBatchNormEvaluator(BatchNormOp op) {
  bool hasWeight = static_cast<bool>(op.getWeight()), hasBias = static_cast<bool>(op.getBias());
  return [hasWeight, hasBias, channel = static_cast<int64_t>(op.getChannel()),
          eps = op.getEps().convertToDouble()](TensorRange operands) -> TensorVector {
    const at::Tensor &input = operands[0];
    at::Tensor weight = hasWeight ? operands[3] : at::Tensor(), bias = hasBias ? operands.back() : at::Tensor();
    bool isPlain = channel == 1;
    for (const at::Tensor &perChannel : operands.drop_front())
      isPlain &= perChannel.dim() == 1;
    if (isPlain)
      return {at::batch_norm(input, weight, bias, operands[1], operands[2], /*training=*/false, 0.0, eps, false)};
    at::ScalarType type = input.scalar_type();
    bool isNarrow = type == at::kHalf || type == at::kBFloat16;
    auto align = [&](const at::Tensor &value) {
      return alignChannels(isNarrow ? value.to(at::kFloat) : value, input.dim(), channel);
    };
    at::Tensor scale = at::rsqrt(align(operands[2]) + eps);
    if (hasWeight)
      scale = scale * align(weight);
    at::Tensor shift = -align(operands[1]) * scale;
    if (hasBias)
      shift = shift + align(bias);
    return {(input * scale + shift).to(type)};
  };
}

//===----------------------------------------------------------------------------===//
// Pooling
//===----------------------------------------------------------------------------===//

/// Runs `pool` on channels, or on channels of samples: all dimensions before these as one. Channels stay a dimension of
/// their own, since torch pools a tensor in which they are innermost several times as fast.
template <typename Pool> static at::Tensor poolRows(const at::Tensor &input, size_t spatial, Pool pool) {
  int64_t lead = input.dim() - static_cast<int64_t>(spatial);
  if (lead == 1 || lead == 2)
    return pool(input);
  std::vector<int64_t> sizes(input.sizes().begin(), input.sizes().begin() + lead);
  std::vector<int64_t> rows(input.sizes().begin() + std::max<int64_t>(lead - 1, 0), input.sizes().end());
  rows.insert(rows.begin(), lead == 0 ? 1 : c10::multiply_integers(at::IntArrayRef(sizes).slice(0, lead - 1)));
  at::Tensor result = pool(input.reshape(rows));
  sizes.insert(sizes.end(), result.sizes().end() - static_cast<ptrdiff_t>(spatial), result.sizes().end());
  return result.reshape(sizes);
}

Evaluator makeMaxPoolEvaluator(MaxPoolOp op) {
  return [kernel = op.getKernel().vec(), stride = op.getStride().vec(), padding = op.getPadding().vec(),
          dilation = op.getDilation().vec(), ceil = op.getCeilMode()](TensorRange operands) -> TensorVector {
    return {poolRows(operands[0], kernel.size(), [&](const at::Tensor &rows) {
      if (kernel.size() == 1)
        return at::max_pool1d(rows, kernel, stride, padding, dilation, ceil);
      return kernel.size() == 2 ? at::max_pool2d(rows, kernel, stride, padding, dilation, ceil)
                                : at::max_pool3d(rows, kernel, stride, padding, dilation, ceil);
    })};
  };
}

Evaluator makeAvgPoolEvaluator(AvgPoolOp op) {
  std::optional<int64_t> divisor;
  if (op.getDivisor())
    divisor = static_cast<int64_t>(*op.getDivisor());
  return [kernel = op.getKernel().vec(), stride = op.getStride().vec(), padding = op.getPadding().vec(),
          ceil = op.getCeilMode(), counts = op.getCountIncludePad(), divisor](TensorRange operands) -> TensorVector {
    return {poolRows(operands[0], kernel.size(), [&](const at::Tensor &rows) {
      if (kernel.size() == 1)
        return at::avg_pool1d(rows, kernel, stride, padding, ceil, counts);
      return kernel.size() == 2 ? at::avg_pool2d(rows, kernel, stride, padding, ceil, counts, divisor)
                                : at::avg_pool3d(rows, kernel, stride, padding, ceil, counts, divisor);
    })};
  };
}

} // namespace pfcn::runtime
