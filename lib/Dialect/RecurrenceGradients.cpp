//===- RecurrenceGradients.cpp - back through time ---------------------------------===//
//
// The states of all steps are there, so the gates and their derivatives are too, for all steps at once. Only what
// carries a gradient from step to step is a loop, `pfcn.recurrence_adjoint`; the rest are products.
//
//===----------------------------------------------------------------------------===//

#include "Expr.h"

using namespace mlir;
using namespace mlir::pfcn;

namespace {
class Adjoint {
public:
  Adjoint(RecurrenceOp op, OpBuilder &builder, Value upstream)
      : op(op), builder(builder), loc(op.getLoc()), upstream(upstream), time(ranked(upstream).getRank() - 2),
        width(op.getWidth()) {}

  SmallVector<Value> run(ArrayRef<bool> wanted);

private:
  Expr wrap(Value value) { return {&builder, loc, value}; }
  /// Part `i` of the last dimension.
  Expr part(Expr value, int64_t i, int64_t count = 1) {
    return wrap(SliceOp::create(builder, loc, value.value, time + 1, i * width, (i + count) * width, 1));
  }
  Expr join(ArrayRef<Expr> parts) {
    auto values = llvm::map_to_vector(parts, [](Expr part) { return part.value; });
    return values.size() == 1 ? parts.front() : wrap(CatOp::create(builder, loc, values, time + 1));
  }
  Value keepCells();
  /// The state before each step.
  Expr delay(Expr states, Value first);
  /// The step at which the recurrence begins.
  Expr atStart(Expr sequence) {
    return wrap(SelectOp::create(builder, loc, sequence.value, time, op.getReverse() ? op.getSteps() - 1 : 0));
  }
  void buildLoop(Expr states);
  Expr project(Expr value, Value weight, Value bias) {
    return wrap(LinearOp::create(builder, loc, value.value, weight, bias));
  }
  Value back(Expr gates, Value weight) { return MatmulOp::create(builder, loc, gates.value, weight); }

  RecurrenceOp op;
  OpBuilder &builder;
  Location loc;
  Value upstream;
  int64_t time, width;

  /// States before each step, the gradients of the gates before and behind the hidden product, and of first states.
  std::optional<Expr> before, outer, inner, first, firstCell;
};
} // namespace

/// The sequence of both states of an lstm, computed once: what uses the hidden ones reads their part of it.
Value Adjoint::keepCells() {
  if (op.getKind() != "lstm" || op.getKeepCells())
    return op.getResult();
  OpBuilder here(op);
  SmallVector<int64_t> shape(ranked(op.getResult()).getShape());
  shape.back() *= 2;
  auto both = RecurrenceOp::create(here, loc, ranked(op.getResult()).clone(shape), op.getKind(), op.getInput(),
                                   op.getWeight(), op.getHiddenWeight(), op.getHidden(), op.getCell(), op.getBias(),
                                   op.getHiddenBias(), op.getReverse(), /*keep_cells=*/true);
  op.getResult().replaceAllUsesWith(SliceOp::create(here, loc, both, time + 1, 0, width, 1));
  return both;
}

Expr Adjoint::delay(Expr states, Value initial) {
  Value start = UnsqueezeOp::create(builder, loc, initial, time);
  int64_t steps = op.getSteps();
  if (steps == 1)
    return wrap(start);
  bool reverse = op.getReverse();
  Value rest = SliceOp::create(builder, loc, states.value, time, reverse ? 1 : 0, reverse ? steps : steps - 1, 1);
  SmallVector<Value> parts = {start, rest};
  if (reverse)
    std::swap(parts[0], parts[1]);
  return wrap(CatOp::create(builder, loc, parts, time));
}

void Adjoint::buildLoop(Expr states) {
  StringRef kind = op.getKind();
  Expr hidden = kind == "lstm" ? part(states, 0) : states, g = wrap(upstream);
  before = delay(hidden, op.getHidden());
  std::optional<Expr> cellGradient;
  if (op.getKeepCells()) {
    cellGradient = part(g, 1);
    g = part(g, 0);
  }
  SmallVector<Expr> factors;
  // The derivative of a sigmoid, by its value.
  auto slope = [](Expr s) { return s * (1.0 - s); };
  std::optional<Expr> candidateSlope, forget, update;
  if (kind == "tanh") {
    factors = {1.0 - hidden * hidden};
  } else if (kind == "relu") {
    factors = {where(compare(Predicate::le, hidden, 0.0), 0.0, hidden.constant(1.0))};
  } else {
    Expr fromInput = project(wrap(op.getInput()), op.getWeight(), op.getBias());
    Expr fromHidden = project(*before, op.getHiddenWeight(), op.getHiddenBias());
    auto gate = [&](int64_t i) { return part(fromInput, i) + part(fromHidden, i); };
    if (kind == "lstm") {
      Expr cell = part(states, 1), cellBefore = delay(cell, op.getCell()), bent = tanh(cell);
      Expr in = sigmoid(gate(0)), candidate = tanh(gate(2)), out = sigmoid(gate(3));
      forget = sigmoid(gate(1));
      factors = {candidate * slope(in), cellBefore * slope(*forget), in * (1.0 - candidate * candidate),
                 bent * slope(out),     out * (1.0 - bent * bent),   *forget};
    } else {
      Expr reset = sigmoid(gate(0));
      update = sigmoid(gate(1));
      Expr candidate = tanh(part(fromInput, 2) + reset * part(fromHidden, 2));
      candidateSlope = (1.0 - *update) * (1.0 - candidate * candidate);
      factors = {*candidateSlope * part(fromHidden, 2) * slope(reset), (*before - candidate) * slope(*update),
                 *candidateSlope * reset, *update};
    }
  }
  SmallVector<int64_t> shape(g.type().getShape());
  shape.back() = width * RecurrenceAdjointOp::getPartCount(kind);
  Expr all = wrap(RecurrenceAdjointOp::create(builder, loc, g.type().clone(shape), kind, g.value, join(factors).value,
                                              op.getHiddenWeight(), cellGradient ? cellGradient->value : Value(),
                                              op.getReverse()));
  int64_t gates = RecurrenceOp::getGateCount(kind);
  inner = outer = kind == "tanh" || kind == "relu" ? all : part(all, 0, gates);
  first = wrap(back(atStart(*inner), op.getHiddenWeight()));
  if (kind == "lstm")
    firstCell = atStart(part(all, 4)) * atStart(*forget);
  if (kind == "gru") {
    Expr state = part(all, 3);
    outer = join({part(all, 0, 2), state * *candidateSlope});
    first = *first + atStart(state) * atStart(*update);
  }
}

SmallVector<Value> Adjoint::run(ArrayRef<bool> wanted) {
  buildLoop(wrap(keepCells()));
  SmallVector<Value> gradients(op->getNumOperands());
  auto sumRows = [&](Expr gates, Value operand) { return sumTo(gates, ranked(operand)).value; };
  unsigned next = 0;
  auto set = [&](Value operand, function_ref<Value()> build) {
    if (operand && wanted[next++])
      gradients[next - 1] = build();
  };
  set(op.getInput(), [&] { return back(*outer, op.getWeight()); });
  set(op.getWeight(), [&] { return multiplyRows(builder, loc, outer->value, op.getInput()); });
  set(op.getHiddenWeight(), [&] { return multiplyRows(builder, loc, inner->value, before->value); });
  set(op.getHidden(), [&] { return first->value; });
  set(op.getCell(), [&] { return firstCell->value; });
  set(op.getBias(), [&] { return sumRows(*outer, op.getBias()); });
  set(op.getHiddenBias(), [&] { return sumRows(*inner, op.getHiddenBias()); });
  return gradients;
}

Gradients RecurrenceOp::vjp(OpBuilder &builder, Value upstream, ArrayRef<bool> wanted) {
  // Torch rounds f16 and bf16 at each step.
  Type element = ranked(upstream).getElementType();
  if (ShapedType::isDynamic(getSteps()) || getSteps() == 0 || isa<Float16Type, BFloat16Type>(element))
    return failure();
  return Adjoint(*this, builder, upstream).run(wanted);
}

/// None: derivatives of higher order are torch's.
Gradients RecurrenceAdjointOp::vjp(OpBuilder &, Value, ArrayRef<bool>) { return failure(); }
