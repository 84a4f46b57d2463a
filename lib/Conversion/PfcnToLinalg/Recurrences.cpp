//===- Recurrences.cpp - recurrent layers as a loop over time ----------------------===//
//
// An scf.for carries the states and the sequence of them, which each step writes a part of. So it does for their
// gradients, against time.
//
//===----------------------------------------------------------------------------===//

#include "Lowering.h"
#include "ScalarMath.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace mlir;
using namespace mlir::pfcn;

static Num sigmoid(Num x) { return 1.0 / (1.0 + exp(-x)); }

namespace {
/// One step of a layer, built inside of the loop.
class Step {
public:
  Step(Lowering &lowering, RecurrenceOp op, Value time) : lowering(lowering), op(op), time(time) {
    for (OpFoldResult size : getSizes(lowering, op.getHidden()))
      sizes.push_back(size);
  }

  LogicalResult build(Value hidden, Value cell);

  Value hidden, cell;

  /// Writes a state into the sequence, behind `offset` elements of its last dimension.
  Value insert(Value sequence, Value state, int64_t offset) {
    return tensor::InsertSliceOp::create(lowering, state, sequence, getOffsets(offset), getPartSizes(sizes.back()),
                                         getOnes());
  }

private:
  SmallVector<OpFoldResult> getOffsets(int64_t last) {
    SmallVector<OpFoldResult> offsets(sizes.size() - 1, lowering.getIndexAttr(0));
    offsets.append({time, lowering.getIndexAttr(last)});
    return offsets;
  }
  SmallVector<OpFoldResult> getPartSizes(OpFoldResult last) {
    SmallVector<OpFoldResult> part(ArrayRef(sizes).drop_back());
    part.append({lowering.getIndexAttr(1), last});
    return part;
  }
  SmallVector<OpFoldResult> getOnes() { return SmallVector<OpFoldResult>(sizes.size() + 1, lowering.getIndexAttr(1)); }
  Value getGate(Value gates, int64_t gate);
  FailureOr<Value> map(ArrayRef<Value> gates, Value state, Type type, function_ref<Num(ArrayRef<Num>)> formula);

  Lowering &lowering;
  RecurrenceOp op;
  Value time;
  SmallVector<OpFoldResult> sizes;
};
} // namespace

/// Part `gate` of the last dimension, [gates · width].
Value Step::getGate(Value gates, int64_t gate) {
  auto type = ranked(gates);
  int64_t width = op.getWidth(), rank = type.getRank();
  SmallVector<OpFoldResult> offsets(rank, lowering.getIndexAttr(0)), ones(rank, lowering.getIndexAttr(1));
  SmallVector<OpFoldResult> part = getSizes(lowering, gates);
  offsets.back() = lowering.getIndexAttr(gate * width);
  part.back() = lowering.getIndexAttr(width);
  return tensor::ExtractSliceOp::create(lowering, gates, offsets, part, ones);
}

/// An elementwise op over gates, biases and a state, which is the last operand; null ones are left out.
FailureOr<Value> Step::map(ArrayRef<Value> gates, Value state, Type type, function_ref<Num(ArrayRef<Num>)> formula) {
  auto shape = ranked(op.getHidden()).getShape();
  int64_t rank = shape.size();
  LoopNest nest(lowering, shape);
  nest.readTrailing(state); // where sizes are found
  for (Value gate : gates) {
    // A bias is [width], or [instances, width].
    SmallVector<int64_t> loops = llvm::to_vector(llvm::seq<int64_t>(rank));
    if (ranked(gate).getRank() == 1)
      loops = {rank - 1};
    else if (ranked(gate).getRank() < rank)
      loops = {0, rank - 1};
    nest.read(gate, loops);
  }
  Type computeType = getComputeType(type);
  return nest.map(type, [&](ImplicitLocOpBuilder &builder, ValueRange elements) {
    SmallVector<Num> numbers;
    for (Value element : elements)
      numbers.push_back({&builder, convertFloat(builder, element, computeType)});
    std::rotate(numbers.begin(), numbers.begin() + 1, numbers.end()); // the state behind the gates
    return convertFloat(builder, formula(numbers).value, type);
  });
}

LogicalResult Step::build(Value oldHidden, Value oldCell) {
  SmallVector<int64_t> shape(ranked(op.getHidden()).getShape());
  Type type = ranked(op.getHidden()).getElementType();
  StringRef kind = op.getKind();
  int64_t count = RecurrenceOp::getGateCount(kind);
  shape.back() *= count;

  // What is left after the time has been taken.
  SmallVector<OpFoldResult> offsets = getOffsets(0);
  SmallVector<OpFoldResult> inputSizes =
      getPartSizes(getSize(lowering, op.getInput(), ranked(op.getInput()).getRank() - 1));
  SmallVector<int64_t> inputShape(ranked(op.getInput()).getShape());
  inputShape.erase(inputShape.end() - 2);
  Value input = tensor::ExtractSliceOp::create(lowering, RankedTensorType::get(inputShape, type), op.getInput(),
                                               offsets, inputSizes, getOnes());
  FailureOr<Value> fromInput = contract(lowering, input, op.getWeight(), /*transposeRhs=*/true, shape);
  FailureOr<Value> fromHidden = contract(lowering, oldHidden, op.getHiddenWeight(), /*transposeRhs=*/true, shape);
  if (failed(fromInput) || failed(fromHidden))
    return failure();

  // Per gate: both products and both biases, in this order.
  bool hasBias = static_cast<bool>(op.getBias());
  int64_t terms = hasBias ? 4 : 2;
  SmallVector<Value> gates;
  for (int64_t gate = 0; gate < count; ++gate) {
    gates.append({getGate(*fromInput, gate), getGate(*fromHidden, gate)});
    if (hasBias)
      gates.append({getGate(op.getBias(), gate), getGate(op.getHiddenBias(), gate)});
  }
  auto outer = [&](ArrayRef<Num> x, int64_t gate) {
    return hasBias ? x[gate * terms] + x[gate * terms + 2] : x[gate * terms];
  };
  auto inner = [&](ArrayRef<Num> x, int64_t gate) {
    return hasBias ? x[gate * terms + 1] + x[gate * terms + 3] : x[gate * terms + 1];
  };
  auto gate = [&](ArrayRef<Num> x, int64_t gate) { return outer(x, gate) + inner(x, gate); };

  FailureOr<Value> next;
  if (kind == "lstm") {
    next = map(ArrayRef(gates).take_front(3 * terms), oldCell, type, [&](ArrayRef<Num> x) {
      return sigmoid(gate(x, 1)) * x.back() + sigmoid(gate(x, 0)) * tanh(gate(x, 2));
    });
    if (failed(next))
      return failure();
    cell = *next;
    next = map(ArrayRef(gates).take_back(terms), cell, type,
               [&](ArrayRef<Num> x) { return sigmoid(gate(x, 0)) * tanh(x.back()); });
  } else if (kind == "gru") {
    next = map(gates, oldHidden, type, [&](ArrayRef<Num> x) {
      Num fresh = tanh(outer(x, 2) + sigmoid(gate(x, 0)) * inner(x, 2));
      return (x.back() - fresh) * sigmoid(gate(x, 1)) + fresh;
    });
  } else {
    next = map(gates, oldHidden, type,
               [&](ArrayRef<Num> x) { return kind == "tanh" ? tanh(gate(x, 0)) : maximum(gate(x, 0), 0); });
  }
  if (failed(next))
    return failure();
  hidden = *next;
  return success();
}

FailureOr<Value> mlir::pfcn::lowerRecurrence(Lowering &lowering, RecurrenceOp op) {
  int64_t steps = op.getSteps();
  if (ShapedType::isDynamic(steps))
    return lowering.decline("the number of steps is dynamic");
  if (ranked(op.getHidden()).getRank() > 3)
    return lowering.decline("it has more than one dimension of instances");
  auto constant = [&](int64_t value) { return arith::ConstantIndexOp::create(lowering, value).getResult(); };
  SmallVector<OpFoldResult> sizes = getSizes(lowering, op.getInput());
  sizes.back() = lowering.getIndexAttr(ranked(op.getResult()).getShape().back());
  Value sequence = tensor::EmptyOp::create(lowering, sizes, ranked(op.getResult()).getElementType());
  SmallVector<Value> carried = {op.getHidden()};
  if (op.getCell())
    carried.push_back(op.getCell());
  carried.push_back(sequence);
  auto loop = scf::ForOp::create(lowering, constant(0), constant(steps), constant(1), carried);

  OpBuilder::InsertionGuard guard(lowering);
  lowering.setInsertionPointToStart(loop.getBody());
  Value time = loop.getInductionVar();
  if (op.getReverse())
    time = arith::SubIOp::create(lowering, constant(steps - 1), time);
  Step step(lowering, op, time);
  auto states = loop.getRegionIterArgs();
  if (failed(step.build(states[0], op.getCell() ? states[1] : Value())))
    return failure();
  Value written = step.insert(states.back(), step.hidden, 0);
  if (op.getKeepCells())
    written = step.insert(written, step.cell, op.getWidth());
  SmallVector<Value> yielded = {step.hidden};
  if (op.getCell())
    yielded.push_back(step.cell);
  yielded.push_back(written);
  scf::YieldOp::create(lowering, yielded);
  return loop.getResults().back();
}

//===----------------------------------------------------------------------------===//
// The adjoint
//===----------------------------------------------------------------------------===//

namespace {
/// One step back, built inside of the loop.
class AdjointStep {
public:
  AdjointStep(Lowering &lowering, RecurrenceAdjointOp op, Value time) : lowering(lowering), op(op), time(time) {
    shape.assign(ranked(op.getUpstream()).getShape().drop_back(2).begin(),
                 ranked(op.getUpstream()).getShape().drop_back(2).end());
    shape.push_back(op.getWidth());
    batch = getSizes(lowering, op.getUpstream());
    batch.pop_back_n(2);
  }

  /// Part `i` of the last dimension, at this step.
  Value take(Value sequence, int64_t i) {
    return tensor::ExtractSliceOp::create(lowering, RankedTensorType::get(shape, getElement()), sequence,
                                          getOffsets(i * op.getWidth()), getPart(op.getWidth()), getOnes());
  }
  /// Writes `count` parts of the last dimension, at this step.
  Value insert(Value sequence, Value parts, int64_t i, int64_t count) {
    return tensor::InsertSliceOp::create(lowering, parts, sequence, getOffsets(i * op.getWidth()),
                                         getPart(count * op.getWidth()), getOnes());
  }
  FailureOr<Value> map(ArrayRef<Value> operands, function_ref<Num(ArrayRef<Num>)> formula) {
    LoopNest nest(lowering, shape);
    for (Value operand : operands)
      nest.readTrailing(operand);
    Type element = getElement(), compute = getComputeType(element);
    return nest.map(element, [&](ImplicitLocOpBuilder &builder, ValueRange elements) {
      SmallVector<Num> numbers;
      for (Value value : elements)
        numbers.push_back({&builder, convertFloat(builder, value, compute)});
      return convertFloat(builder, formula(numbers).value, element);
    });
  }
  /// The gradients of the gates side by side.
  Value join(ArrayRef<Value> gates);
  FailureOr<Value> multiply(Value gates) {
    FailureOr<Value> product = contract(lowering, gates, op.getHiddenWeight(), /*transposeRhs=*/false, shape);
    return failed(product) ? product : roundTo(lowering, *product, getElement());
  }

private:
  Type getElement() { return ranked(op.getResult()).getElementType(); }
  SmallVector<OpFoldResult> getOffsets(int64_t last) {
    SmallVector<OpFoldResult> offsets(batch.size(), lowering.getIndexAttr(0));
    offsets.append({time, lowering.getIndexAttr(last)});
    return offsets;
  }
  SmallVector<OpFoldResult> getPart(int64_t width) {
    SmallVector<OpFoldResult> sizes(batch);
    sizes.append({lowering.getIndexAttr(1), lowering.getIndexAttr(width)});
    return sizes;
  }
  SmallVector<OpFoldResult> getOnes() { return SmallVector<OpFoldResult>(batch.size() + 2, lowering.getIndexAttr(1)); }

  Lowering &lowering;
  RecurrenceAdjointOp op;
  Value time;
  SmallVector<int64_t> shape;
  SmallVector<OpFoldResult> batch;
};
} // namespace

Value AdjointStep::join(ArrayRef<Value> gates) {
  if (gates.size() == 1)
    return gates.front();
  int64_t width = op.getWidth();
  SmallVector<OpFoldResult> sizes(batch), offsets(batch.size() + 1, lowering.getIndexAttr(0)),
      ones(batch.size() + 1, lowering.getIndexAttr(1));
  sizes.push_back(lowering.getIndexAttr(static_cast<int64_t>(gates.size()) * width));
  Value joined = tensor::EmptyOp::create(lowering, sizes, getElement());
  sizes.back() = lowering.getIndexAttr(width);
  for (auto [i, gate] : llvm::enumerate(gates)) {
    offsets.back() = lowering.getIndexAttr(static_cast<int64_t>(i) * width);
    joined = tensor::InsertSliceOp::create(lowering, gate, joined, offsets, sizes, ones);
  }
  return joined;
}

FailureOr<Value> mlir::pfcn::lowerRecurrenceAdjoint(Lowering &lowering, RecurrenceAdjointOp op) {
  int64_t steps = op.getSteps(), gateCount = RecurrenceOp::getGateCount(op.getKind());
  if (ShapedType::isDynamic(steps))
    return lowering.decline("the number of steps is dynamic");
  RankedTensorType upstream = ranked(op.getUpstream());
  if (upstream.getRank() > 4)
    return lowering.decline("it has more than one dimension of instances");
  bool isLstm = op.getKind() == "lstm", isGru = op.getKind() == "gru";
  Type element = ranked(op.getResult()).getElementType();
  auto constant = [&](int64_t value) { return arith::ConstantIndexOp::create(lowering, value).getResult(); };
  SmallVector<OpFoldResult> sizes = getSizes(lowering, op.getUpstream());
  sizes.back() = lowering.getIndexAttr(ranked(op.getResult()).getShape().back());
  Value sequence = tensor::EmptyOp::create(lowering, sizes, element);
  sizes.erase(sizes.end() - 2);
  sizes.back() = lowering.getIndexAttr(op.getWidth());
  Value zero = arith::ConstantOp::create(lowering, lowering.getZeroAttr(element));
  SmallVector<Value> carried;
  for (int64_t i = 0; i < (isLstm ? 2 : 1); ++i)
    carried.push_back(
        linalg::FillOp::create(lowering, zero, tensor::EmptyOp::create(lowering, sizes, element).getResult())
            .getResult(0));
  carried.push_back(sequence);
  auto loop = scf::ForOp::create(lowering, constant(0), constant(steps), constant(1), carried);

  OpBuilder::InsertionGuard guard(lowering);
  lowering.setInsertionPointToStart(loop.getBody());
  Value time = loop.getInductionVar();
  if (!op.getReverse())
    time = arith::SubIOp::create(lowering, constant(steps - 1), time);
  AdjointStep step(lowering, op, time);
  auto states = loop.getRegionIterArgs();
  auto factor = [&](int64_t i) { return step.take(op.getFactors(), i); };
  auto multiply = [&](Value gradient, int64_t i) {
    return step.map({gradient, factor(i)}, [](ArrayRef<Num> x) { return x[0] * x[1]; });
  };
  auto add = [](ArrayRef<Num> x) { return x[0] + x[1]; };
  FailureOr<Value> hidden = step.map({step.take(op.getUpstream(), 0), states[0]}, add), cell;
  if (failed(hidden))
    return failure();
  if (isLstm) {
    SmallVector<Value> terms = {states[1], *hidden, factor(4)};
    if (op.getCellUpstream())
      terms.push_back(step.take(op.getCellUpstream(), 0));
    cell = step.map(terms, [](ArrayRef<Num> x) {
      Num sum = x[0] + x[1] * x[2];
      return x.size() > 3 ? sum + x[3] : sum;
    });
    if (failed(cell))
      return failure();
  }
  SmallVector<Value> gates;
  for (int64_t i = 0; i < gateCount; ++i) {
    FailureOr<Value> gate = multiply(isLstm && i < 3 ? *cell : *hidden, i);
    if (failed(gate))
      return failure();
    gates.push_back(*gate);
  }
  Value joined = step.join(gates);
  FailureOr<Value> next = step.multiply(joined);
  if (succeeded(next) && isGru)
    next = step.map({*next, *hidden, factor(3)}, [](ArrayRef<Num> x) { return x[0] + x[1] * x[2]; });
  if (failed(next))
    return failure();
  SmallVector<Value> yielded = {*next};
  if (isLstm) {
    FailureOr<Value> nextCell = multiply(*cell, 5);
    if (failed(nextCell))
      return failure();
    yielded.push_back(*nextCell);
  }
  Value written = step.insert(states.back(), joined, 0, gateCount);
  if (isLstm || isGru)
    written = step.insert(written, isLstm ? *cell : *hidden, gateCount, 1);
  yielded.push_back(written);
  scf::YieldOp::create(lowering, yielded);
  return loop.getResults().back();
}
