//===- Evaluate.cpp - the ops of the dialect on torch tensors ----------------------===//
//
// One table: the name of an op, and a small lambda that makes its evaluator. Attributes are
// read when the evaluator is made, so that nothing of MLIR is touched when it runs.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Runtime/Evaluate.h"

#include "pfcn/Dialect/Pfcn.h"
#include "pfcn/Runtime/Opaque.h"

#include "EvaluateRecurrence.h"
#include "EvaluateWindows.h"

#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/DialectResourceBlobManager.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/raw_ostream.h"

#include <ATen/Functions.h>

using namespace mlir::pfcn;

namespace pfcn::runtime {

namespace {

using Factory = std::function<Evaluator(mlir::Operation *)>;

int64_t rankOf(mlir::Value value) { return mlir::cast<mlir::RankedTensorType>(value.getType()).getRank(); }

std::vector<int64_t> toVector(llvm::ArrayRef<int64_t> values) { return values.vec(); }

std::optional<at::Scalar> limit(std::optional<llvm::APFloat> value) {
  return value ? std::optional<at::Scalar>(value->convertToDouble()) : std::nullopt;
}

at::Tensor compare(Predicate predicate, const at::Tensor &lhs, const at::Tensor &rhs) {
  switch (predicate) {
  case Predicate::eq:
    return at::eq(lhs, rhs);
  case Predicate::ne:
    return at::ne(lhs, rhs);
  case Predicate::lt:
    return at::lt(lhs, rhs);
  case Predicate::le:
    return at::le(lhs, rhs);
  case Predicate::gt:
    return at::gt(lhs, rhs);
  case Predicate::ge:
    return at::ge(lhs, rhs);
  }
  TORCH_CHECK(false, "pfcn: unknown predicate of pfcn.compare");
}

at::Tensor reduceProduct(at::Tensor value, std::vector<int64_t> dims, bool keepdim) {
  std::sort(dims.begin(), dims.end(), std::greater<>());
  for (int64_t dim : dims)
    value = at::prod(value, dim, keepdim, value.scalar_type());
  return value;
}

/// `layer_norm` whose affine parts may carry an instance dimension, which torch's cannot.
at::Tensor layerNorm(TensorRange operands, bool hasWeight, bool hasBias, int64_t rank, double eps) {
  const at::Tensor &input = operands[0];
  at::IntArrayRef shape = input.sizes().slice(input.dim() - rank);
  at::Tensor weight = hasWeight ? operands[1] : at::Tensor();
  at::Tensor bias = hasBias ? operands.back() : at::Tensor();
  bool plain = (!hasWeight || weight.dim() == rank) && (!hasBias || bias.dim() == rank);
  if (plain)
    return at::layer_norm(input, shape, weight, bias, eps);
  at::Tensor result = at::layer_norm(input, shape, {}, {}, eps);
  if (hasWeight)
    result = at::mul(result, weight);
  return hasBias ? at::add(result, bias) : result;
}

/// The sizes of a reshape: known ones, leading ones carried over, and at most one inferred.
std::vector<int64_t> resolveReshape(at::IntArrayRef given, llvm::ArrayRef<int64_t> wanted, size_t carried) {
  std::vector<int64_t> sizes(wanted);
  for (size_t i = 0; i < carried; ++i)
    sizes[i] = given[i];
  int64_t known = 1, inferred = -1;
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (mlir::ShapedType::isDynamic(sizes[i]))
      inferred = static_cast<int64_t>(i);
    else
      known *= sizes[i];
  }
  if (inferred >= 0)
    sizes[inferred] = known == 0 ? 0 : c10::multiply_integers(given) / known;
  return sizes;
}

Evaluator makeReshape(ReshapeOp op) {
  llvm::ArrayRef<int64_t> given = op.getInput().getType().getShape(), wanted = op.getType().getShape();
  size_t carried = countCarriedDims(given, wanted).value_or(0);
  return [wanted = wanted.vec(), carried](TensorRange operands) -> TensorVector {
    return {at::reshape(operands[0], resolveReshape(operands[0].sizes(), wanted, carried))};
  };
}

Evaluator makeExpand(ExpandOp op) {
  llvm::ArrayRef<int64_t> given = op.getInput().getType().getShape(), wanted = op.getType().getShape();
  std::vector<int64_t> sizes(wanted);
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (!mlir::ShapedType::isDynamic(sizes[i]))
      continue;
    size_t added = wanted.size() - given.size();
    TORCH_CHECK(i >= added && mlir::ShapedType::isDynamic(given[i - added]), "pfcn: ", describe(op),
                " expands to a size that is known neither from its type nor from its operand");
    sizes[i] = -1;
  }
  return [sizes](TensorRange operands) -> TensorVector { return {operands[0].expand(sizes)}; };
}

/// The table. `Op` gives the name; the lambda reads the attributes and returns the evaluator.
class Table {
public:
  Table() {
    addPointwise();
    addContractions();
    addReductions();
    addWindows();
    addViews();
    add<OpaqueOp>([](OpaqueOp op) { return makeOpaqueEvaluator(op); });
    add<ComposedOp>([](ComposedOp op) { return makeComposedEvaluator(op); });
  }

  const Factory *find(llvm::StringRef name) const {
    auto found = factories.find(name);
    return found == factories.end() ? nullptr : &found->second;
  }

private:
  template <typename Op, typename Make> void add(Make make) {
    factories[Op::getOperationName()] = [make](mlir::Operation *op) -> Evaluator { return make(mlir::cast<Op>(op)); };
  }

  /// An op of one tensor without attributes.
  template <typename Op> void unary(at::Tensor (*function)(const at::Tensor &)) {
    add<Op>([function](Op) -> Evaluator {
      return [function](TensorRange operands) -> TensorVector { return {function(operands[0])}; };
    });
  }

  template <typename Op> void binary(at::Tensor (*function)(const at::Tensor &, const at::Tensor &)) {
    add<Op>([function](Op) -> Evaluator {
      return [function](TensorRange operands) -> TensorVector { return {function(operands[0], operands[1])}; };
    });
  }

  /// A reduction; over no dimension it is the identity, where torch would take all of them.
  template <typename Op> void reduction(at::Tensor (*function)(const at::Tensor &, at::IntArrayRef, bool)) {
    add<Op>([function](Op op) -> Evaluator {
      return
          [function, dims = toVector(op.getDims()), keepdim = op.getKeepdim()](TensorRange operands) -> TensorVector {
            return {dims.empty() ? operands[0] : function(operands[0], dims, keepdim)};
          };
    });
  }

  void addPointwise();
  void addContractions();
  void addReductions();
  void addWindows();
  void addViews();

  llvm::StringMap<Factory> factories;
};

void Table::addPointwise() {
  unary<NegOp>(at::neg);
  unary<AbsOp>(at::abs);
  unary<SignOp>(at::sign);
  unary<ReluOp>(at::relu);
  unary<ExpOp>(at::exp);
  unary<Expm1Op>(at::expm1);
  unary<LogOp>(at::log);
  unary<Log1pOp>(at::log1p);
  unary<SqrtOp>(at::sqrt);
  unary<RsqrtOp>(at::rsqrt);
  unary<ReciprocalOp>(at::reciprocal);
  unary<TanhOp>(at::tanh);
  unary<SigmoidOp>(at::sigmoid);
  unary<SiluOp>(at::silu);
  unary<MishOp>(at::mish);
  unary<ErfOp>(at::erf);
  unary<SinOp>(at::sin);
  unary<CosOp>(at::cos);
  unary<TanOp>(at::tan);
  unary<AsinOp>(at::asin);
  unary<AcosOp>(at::acos);
  unary<AtanOp>(at::atan);
  unary<SinhOp>(at::sinh);
  unary<CoshOp>(at::cosh);
  unary<AsinhOp>(at::asinh);
  unary<AcoshOp>(at::acosh);
  unary<AtanhOp>(at::atanh);
  unary<Exp2Op>(at::exp2);
  unary<Log2Op>(at::log2);
  unary<Log10Op>(at::log10);
  unary<ErfcOp>(at::erfc);
  unary<FloorOp>(at::floor);
  unary<CeilOp>(at::ceil);
  unary<TruncOp>(at::trunc);
  unary<RoundOp>(at::round);
  unary<HardswishOp>(at::hardswish);
  unary<HardsigmoidOp>(at::hardsigmoid);
  unary<LogSigmoidOp>(at::log_sigmoid);
  unary<DetachOp>(at::detach);
  binary<SubOp>([](const at::Tensor &a, const at::Tensor &b) { return at::sub(a, b); });
  binary<AddOp>([](const at::Tensor &a, const at::Tensor &b) { return at::add(a, b); });
  binary<MulOp>(at::mul);
  binary<DivOp>(at::div);
  binary<PowOp>(at::pow);
  binary<MaximumOp>(at::maximum);
  binary<MinimumOp>(at::minimum);
  binary<Atan2Op>(at::atan2);
  binary<FmodOp>(at::fmod);
  binary<RemainderOp>(at::remainder);
  binary<CopysignOp>(at::copysign);
  binary<BitwiseAndOp>(at::bitwise_and);
  binary<BitwiseOrOp>(at::bitwise_or);
  binary<BitwiseXorOp>(at::bitwise_xor);
  add<LeakyReluOp>([](LeakyReluOp op) -> Evaluator {
    return [slope = op.getNegativeSlope().convertToDouble()](TensorRange operands) -> TensorVector {
      return {at::leaky_relu(operands[0], slope)};
    };
  });
  add<EluOp>([](EluOp op) -> Evaluator {
    return [alpha = op.getAlpha().convertToDouble(), scale = op.getScale().convertToDouble(),
            inputScale = op.getInputScale().convertToDouble()](TensorRange operands) -> TensorVector {
      return {at::elu(operands[0], alpha, scale, inputScale)};
    };
  });
  add<SoftplusOp>([](SoftplusOp op) -> Evaluator {
    return [beta = op.getBeta().convertToDouble(), threshold = op.getThreshold().convertToDouble()](
               TensorRange operands) -> TensorVector { return {at::softplus(operands[0], beta, threshold)}; };
  });
  add<GeluOp>([](GeluOp op) -> Evaluator {
    return [approximate = op.getTanhApproximation() ? "tanh" : "none"](TensorRange operands) -> TensorVector {
      return {at::gelu(operands[0], approximate)};
    };
  });
  add<ClampOp>([](ClampOp op) -> Evaluator {
    return [min = limit(op.getMin()), max = limit(op.getMax())](TensorRange operands) -> TensorVector {
      return {min || max ? at::clamp(operands[0], min, max) : operands[0]};
    };
  });
  add<CastOp>([](CastOp op) -> Evaluator {
    return [type = getScalarType(op.getType().getElementType())](TensorRange operands) -> TensorVector {
      return {operands[0].to(type)};
    };
  });
  add<CompareOp>([](CompareOp op) -> Evaluator {
    return [predicate = op.getPredicate()](TensorRange operands) -> TensorVector {
      return {compare(predicate, operands[0], operands[1])};
    };
  });
  add<WhereOp>([](WhereOp) -> Evaluator {
    return [](TensorRange operands) -> TensorVector { return {at::where(operands[0], operands[1], operands[2])}; };
  });
}

void Table::addContractions() {
  add<LinearOp>([](LinearOp) -> Evaluator {
    return [](TensorRange operands) -> TensorVector {
      return {at::linear(operands[0], operands[1], operands.size() > 2 ? operands[2] : at::Tensor())};
    };
  });
  binary<MatmulOp>(at::matmul);
  add<AddmmOp>([](AddmmOp op) -> Evaluator {
    bool batched = rankOf(op.getLhs()) > 2;
    return [batched, beta = op.getBeta().convertToDouble(),
            alpha = op.getAlpha().convertToDouble()](TensorRange operands) -> TensorVector {
      return {batched ? at::baddbmm(operands[0], operands[1], operands[2], beta, alpha)
                      : at::addmm(operands[0], operands[1], operands[2], beta, alpha)};
    };
  });
  add<BatchMatmulOp>([](BatchMatmulOp op) -> Evaluator {
    return [transpose = op.getTransposeRhs()](TensorRange operands) -> TensorVector {
      return {at::matmul(operands[0], transpose ? operands[1].transpose(-2, -1) : operands[1])};
    };
  });
}

void Table::addReductions() {
  reduction<SumOp>([](const at::Tensor &value, at::IntArrayRef dims, bool keepdim) {
    return at::sum(value, dims, keepdim, value.scalar_type());
  });
  reduction<MeanOp>(
      [](const at::Tensor &value, at::IntArrayRef dims, bool keepdim) { return at::mean(value, dims, keepdim); });
  reduction<AmaxOp>(
      [](const at::Tensor &value, at::IntArrayRef dims, bool keepdim) { return at::amax(value, dims, keepdim); });
  reduction<AminOp>(
      [](const at::Tensor &value, at::IntArrayRef dims, bool keepdim) { return at::amin(value, dims, keepdim); });
  reduction<ProdOp>([](const at::Tensor &value, at::IntArrayRef dims, bool keepdim) {
    return reduceProduct(value, dims.vec(), keepdim);
  });
  add<SoftmaxOp>([](SoftmaxOp op) -> Evaluator {
    return [dim = op.getDim()](TensorRange operands) -> TensorVector { return {at::softmax(operands[0], dim)}; };
  });
  add<LogSoftmaxOp>([](LogSoftmaxOp op) -> Evaluator {
    return [dim = op.getDim()](TensorRange operands) -> TensorVector { return {at::log_softmax(operands[0], dim)}; };
  });
  add<LayerNormOp>([](LayerNormOp op) -> Evaluator {
    return [hasWeight = static_cast<bool>(op.getWeight()), hasBias = static_cast<bool>(op.getBias()),
            rank = static_cast<int64_t>(op.getNormalizedRank()), eps = op.getEps().convertToDouble()](
               TensorRange operands) -> TensorVector { return {layerNorm(operands, hasWeight, hasBias, rank, eps)}; };
  });
}

void Table::addWindows() {
  add<ConvOp>(makeConvEvaluator);
  add<BatchNormOp>(makeBatchNormEvaluator);
  add<MaxPoolOp>(makeMaxPoolEvaluator);
  add<AvgPoolOp>(makeAvgPoolEvaluator);
  add<PadOp>([](PadOp op) -> Evaluator {
    std::vector<int64_t> padding; // torch starts at the last dimension
    for (size_t i = op.getLow().size(); i-- > 0;) {
      padding.push_back(op.getLow()[i]);
      padding.push_back(op.getHigh()[i]);
    }
    return [padding, value = op.getValue().convertToDouble()](TensorRange operands) -> TensorVector {
      return {at::constant_pad_nd(operands[0], padding, value)};
    };
  });
  add<FlipOp>([](FlipOp op) -> Evaluator {
    return
        [dims = toVector(op.getDims())](TensorRange operands) -> TensorVector { return {at::flip(operands[0], dims)}; };
  });
}

void Table::addViews() {
  add<RecurrenceOp>(makeRecurrence);
  add<RecurrenceAdjointOp>(makeRecurrenceAdjoint);
  add<ReshapeOp>(makeReshape);
  add<ExpandOp>(makeExpand);
  add<PermuteOp>([](PermuteOp op) -> Evaluator {
    return [dims = toVector(op.getPermutation())](TensorRange operands) -> TensorVector {
      return {operands[0].permute(dims)};
    };
  });
  add<SliceOp>([](SliceOp op) -> Evaluator {
    return [dim = op.getDim(), start = op.getStart(), end = op.getEnd(),
            step = op.getStep()](TensorRange operands) -> TensorVector {
      TORCH_CHECK(end == kSliceToEnd || end <= static_cast<uint64_t>(operands[0].size(dim)), "pfcn: slice ends at ",
                  end, " of a dimension of size ", operands[0].size(dim));
      return {operands[0].slice(dim, start, end, step)};
    };
  });
  add<SelectOp>([](SelectOp op) -> Evaluator {
    return [dim = op.getDim(), index = op.getIndex()](TensorRange operands) -> TensorVector {
      return {operands[0].select(dim, index)};
    };
  });
  add<UnsqueezeOp>([](UnsqueezeOp op) -> Evaluator {
    return [dim = op.getDim()](TensorRange operands) -> TensorVector { return {operands[0].unsqueeze(dim)}; };
  });
  add<SqueezeOp>([](SqueezeOp op) -> Evaluator {
    return
        [dims = toVector(op.getDims())](TensorRange operands) -> TensorVector { return {operands[0].squeeze(dims)}; };
  });
  add<CatOp>([](CatOp op) -> Evaluator {
    return [dim = op.getDim()](TensorRange operands) -> TensorVector {
      return {at::cat(at::TensorList(operands.data(), operands.size()), dim)};
    };
  });
  add<StackOp>([](StackOp op) -> Evaluator {
    return [dim = op.getDim()](TensorRange operands) -> TensorVector {
      return {at::stack(at::TensorList(operands.data(), operands.size()), dim)};
    };
  });
}

} // namespace

Evaluator makeEvaluator(mlir::Operation *op) {
  static const Table table;
  const Factory *factory = table.find(op->getName().getStringRef());
  TORCH_CHECK_NOT_IMPLEMENTED(factory, "pfcn: ", describe(op), " cannot be run by torch");
  return (*factory)(op);
}

//===----------------------------------------------------------------------------===//
// Types, constants, messages
//===----------------------------------------------------------------------------===//

at::ScalarType getScalarType(mlir::Type type) {
  if (auto complex = mlir::dyn_cast<mlir::ComplexType>(type))
    return c10::toComplexType(getScalarType(complex.getElementType()));
  if (type.isF32())
    return at::kFloat;
  if (type.isF64())
    return at::kDouble;
  if (type.isF16())
    return at::kHalf;
  if (type.isBF16())
    return at::kBFloat16;
  if (type.isInteger(1))
    return at::kBool;
  if (type.isUnsignedInteger(8))
    return at::kByte;
  if (type.isInteger(8))
    return at::kChar;
  if (type.isInteger(16))
    return at::kShort;
  if (type.isInteger(32))
    return at::kInt;
  if (type.isInteger(64) || type.isIndex())
    return at::kLong;
  std::string text;
  llvm::raw_string_ostream(text) << type;
  TORCH_CHECK_TYPE(false, "pfcn: torch has no element type ", text);
}

/// Booleans are packed in some attributes, so they are read one by one.
static at::Tensor makeBoolConstant(mlir::DenseElementsAttr value, at::IntArrayRef sizes) {
  at::Tensor result = at::empty(sizes, at::kBool);
  bool *next = result.mutable_data_ptr<bool>();
  for (bool element : value.getValues<bool>())
    *next++ = element;
  return result;
}

at::Tensor makeConstant(mlir::ElementsAttr value) {
  auto type = mlir::cast<mlir::RankedTensorType>(value.getShapedType());
  at::IntArrayRef sizes(type.getShape().data(), type.getShape().size());
  at::ScalarType scalar = getScalarType(type.getElementType());
  llvm::ArrayRef<char> bytes;
  bool isSplat = false;
  if (auto dense = mlir::dyn_cast<mlir::DenseElementsAttr>(value)) {
    if (scalar == at::kBool)
      return makeBoolConstant(dense, sizes);
    bytes = dense.getRawData();
    isSplat = dense.isSplat();
  } else if (auto resource = mlir::dyn_cast<mlir::DenseResourceElementsAttr>(value)) {
    const mlir::AsmResourceBlob *blob = resource.getRawHandle().getBlob();
    TORCH_CHECK(blob, "pfcn: the data of a constant are not there");
    bytes = blob->getData();
  } else {
    TORCH_CHECK_NOT_IMPLEMENTED(false, "pfcn: a constant is stored in an unknown way");
  }
  at::Tensor result = at::empty(isSplat ? at::IntArrayRef() : sizes, scalar);
  TORCH_CHECK(bytes.size() == result.nbytes(), "pfcn: a constant has ", bytes.size(), " bytes of data where ",
              result.nbytes(), " are needed");
  if (!bytes.empty())
    std::memcpy(result.mutable_data_ptr(), bytes.data(), bytes.size());
  return isSplat ? result.expand(sizes).contiguous() : result;
}

std::string describe(mlir::Operation *op) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  stream << "'" << op->getName() << "'";
  if (auto opaque = mlir::dyn_cast<OpaqueOp>(op))
    stream << " of " << opaque.getName();
  if (!mlir::isa<mlir::UnknownLoc>(op->getLoc()))
    stream << " at " << op->getLoc();
  return text;
}

} // namespace pfcn::runtime
