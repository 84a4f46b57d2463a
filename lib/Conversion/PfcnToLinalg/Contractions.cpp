//===- Contractions.cpp - linear, matmul and their kin ---------------------------===//
//
// Every contraction is one nest: leading dimensions, M and N in the order of the result, then K. What
// torch adds to the product (bias, beta * input) is a pointwise nest behind it.
//
//===----------------------------------------------------------------------------===//

#include "Lowering.h"
#include "ScalarMath.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::pfcn;

/// The loops of an operand whose last two dimensions are walked by `row` and `column`, and
/// whose leading dimensions by the leading loops, aligned at the last of `leadingCount`.
static SmallVector<int64_t> getLoops(Value operand, int64_t leadingCount, int64_t row, int64_t column) {
  SmallVector<int64_t> loops;
  int64_t rank = ranked(operand).getRank();
  llvm::append_range(loops, llvm::seq<int64_t>(leadingCount - (rank - 2), leadingCount));
  loops.append({row, column});
  return loops;
}

Value mlir::pfcn::multiplyAccumulate(ImplicitLocOpBuilder &builder, ValueRange elements) {
  Value accumulator = elements[2];
  Value lhs = convertFloat(builder, elements[0], accumulator.getType());
  Value rhs = convertFloat(builder, elements[1], accumulator.getType());
  auto contract = arith::FastMathFlags::contract;
  Value product = arith::MulFOp::create(builder, lhs, rhs, contract);
  // A sum that starts with zero may begin with its first term.
  return arith::AddFOp::create(builder, accumulator, product,
                               contract | arith::FastMathFlags::reassoc | arith::FastMathFlags::nsz);
}

/// What a nest that only widens f16 or bf16 to f32 reads: the contraction widens in its payload, and the
/// wide copy is not stored.
static Value skipWidening(Value operand) {
  auto generic = operand.getDefiningOp<linalg::GenericOp>();
  if (!generic || generic->getNumOperands() != 2 || !llvm::hasSingleElement(generic.getBody()->without_terminator()) ||
      !llvm::all_of(generic.getIndexingMapsArray(), [](AffineMap map) { return map.isIdentity(); }))
    return operand;
  auto widen = dyn_cast<arith::ExtFOp>(generic.getBody()->front());
  bool isWidening = widen && widen.getIn() == generic.getBody()->getArgument(0) &&
                    getComputeType(widen.getIn().getType()) == widen.getType() &&
                    generic.getBody()->getTerminator()->getOperand(0) == widen.getResult();
  return isWidening ? generic->getOperand(0) : operand;
}

FailureOr<Value> mlir::pfcn::contract(Lowering &lowering, Value lhs, Value rhs, bool transposeRhs,
                                      ArrayRef<int64_t> shape) {
  Type type = getComputeType(ranked(lhs).getElementType());
  lhs = skipWidening(lhs);
  rhs = skipWidening(rhs);
  int64_t leading = shape.size() - 2, m = leading, n = leading + 1, k = leading + 2;
  int64_t depth = ranked(lhs).getShape().back();
  if (ShapedType::isDynamic(depth))
    depth = ranked(rhs).getShape().take_back(transposeRhs ? 1 : 2).front();
  LoopNest nest(lowering, shape, depth);
  nest.read(lhs, getLoops(lhs, leading, m, k));
  nest.read(rhs, transposeRhs ? getLoops(rhs, leading, n, k) : getLoops(rhs, leading, k, n));
  return nest.reduce(lowering.getZeroAttr(type), multiplyAccumulate);
}

FailureOr<Value> mlir::pfcn::roundTo(Lowering &lowering, Value product, Type elementType) {
  if (ranked(product).getElementType() == elementType)
    return product;
  LoopNest nest(lowering, ranked(product).getShape());
  nest.readTrailing(product);
  return nest.map(elementType, [&](ImplicitLocOpBuilder &builder, ValueRange elements) {
    return convertFloat(builder, elements[0], elementType);
  });
}

FailureOr<Value> mlir::pfcn::addTo(Lowering &lowering, Value product, Value addend, double alpha, double beta,
                                   Type elementType) {
  LoopNest nest(lowering, ranked(product).getShape());
  nest.readTrailing(product);
  nest.readTrailing(addend);
  return nest.map(elementType, [&](ImplicitLocOpBuilder &builder, ValueRange elements) {
    Num sum{&builder, elements[0]};
    Num term{&builder, convertFloat(builder, elements[1], sum.type())};
    sum = alpha == 1.0 ? sum : sum * alpha;
    term = beta == 1.0 ? term : term * beta;
    return convertFloat(builder, (sum + term).value, elementType);
  });
}

static FailureOr<Value> scaleBy(Lowering &lowering, Value product, double alpha, Type elementType) {
  LoopNest nest(lowering, ranked(product).getShape());
  nest.readTrailing(product);
  return nest.map(elementType, [&](ImplicitLocOpBuilder &builder, ValueRange elements) {
    return convertFloat(builder, (Num{&builder, elements[0]} * alpha).value, elementType);
  });
}

static FailureOr<Value> lowerMatmul(Lowering &lowering, Value lhs, Value rhs, bool transposeRhs,
                                    RankedTensorType type) {
  FailureOr<Value> product = contract(lowering, lhs, rhs, transposeRhs, type.getShape());
  return failed(product) ? product : roundTo(lowering, *product, type.getElementType());
}

static FailureOr<Value> lowerLinear(Lowering &lowering, LinearOp op) {
  RankedTensorType type = ranked(op.getResult());
  // The nest reads the input's rows through its own leading loops; the weight is [N, K].
  int64_t leading = type.getRank() - 1, n = leading, k = leading + 1;
  RankedTensorType input = ranked(op.getInput());
  int64_t depth = input.getShape().back();
  if (ShapedType::isDynamic(depth))
    depth = ranked(op.getWeight()).getDimSize(1);
  LoopNest nest(lowering, type.getShape(), depth);
  SmallVector<int64_t> inputLoops = llvm::to_vector(llvm::seq<int64_t>(0, leading));
  inputLoops.push_back(k);
  nest.read(op.getInput(), inputLoops);
  nest.read(op.getWeight(), {n, k});
  Type computeType = getComputeType(type.getElementType());
  FailureOr<Value> product = nest.reduce(lowering.getZeroAttr(computeType), multiplyAccumulate);
  if (failed(product) || !op.getBias())
    return failed(product) ? product : roundTo(lowering, *product, type.getElementType());
  return addTo(lowering, *product, op.getBias(), /*alpha=*/1.0, /*beta=*/1.0, type.getElementType());
}

static FailureOr<Value> lowerAddmm(Lowering &lowering, AddmmOp op) {
  RankedTensorType type = ranked(op.getResult());
  double alpha = op.getAlpha().convertToDouble(), beta = op.getBeta().convertToDouble();
  FailureOr<Value> product = contract(lowering, op.getLhs(), op.getRhs(), /*transposeRhs=*/false, type.getShape());
  if (failed(product))
    return failure();
  if (beta != 0.0)
    return addTo(lowering, *product, op.getInput(), alpha, beta, type.getElementType());
  // torch ignores the input then, NaN and all.
  return alpha == 1.0 ? roundTo(lowering, *product, type.getElementType())
                      : scaleBy(lowering, *product, alpha, type.getElementType());
}

FailureOr<Value> mlir::pfcn::lowerContraction(Lowering &lowering, Operation *op) {
  return TypeSwitch<Operation *, FailureOr<Value>>(op)
      .Case([&](LinearOp linear) { return lowerLinear(lowering, linear); })
      .Case([&](MatmulOp matmul) {
        return lowerMatmul(lowering, matmul.getLhs(), matmul.getRhs(), /*transposeRhs=*/false, ranked(matmul));
      })
      .Case([&](BatchMatmulOp matmul) {
        return lowerMatmul(lowering, matmul.getLhs(), matmul.getRhs(), matmul.getTransposeRhs(), ranked(matmul));
      })
      .Case([&](AddmmOp addmm) { return lowerAddmm(lowering, addmm); });
}
