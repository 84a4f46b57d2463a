//===- ExpandRecurrences.cpp - torch's recurrent operators as ops of the dialect ---===//
//
// Only in groups: a recurrent layer on its own is torch's, which has a function for it.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Dialect/Pfcn.h"
#include "pfcn/Transforms/Passes.h"

#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "llvm/ADT/StringSwitch.h"

namespace mlir::pfcn {
#define GEN_PASS_DEF_EXPANDRECURRENCESPASS
#include "pfcn/Transforms/Passes.h.inc"
} // namespace mlir::pfcn

using namespace mlir;
using namespace mlir::pfcn;

namespace {

/// One call of lstm, gru, rnn_tanh or rnn_relu on a batched sequence.
class Expander {
public:
  Expander(OpaqueOp call, bool differentiate)
      : call(call), differentiate(differentiate), builder(call.getLoc(), call) {}

  /// False where the call is none of those, or of a form that is left to torch.
  bool run();

private:
  bool read();
  std::optional<bool> getFlag(unsigned argument) {
    auto flag = dyn_cast<BoolAttr>(call.getArguments()[argument]);
    return flag ? std::optional(flag.getValue()) : std::nullopt;
  }
  SmallVector<Value> getTensors(Attribute argument);
  Value buildDirection(Value input, unsigned index, bool reverse);
  Value getLast(Value sequence, bool reverse);

  OpaqueOp call;
  bool differentiate;
  ImplicitLocOpBuilder builder;
  StringRef kind;
  bool isLstm = false, hasBias = false, isBidirectional = false, batchFirst = false;
  int64_t layers = 0, width = 0;
  Value input;
  SmallVector<Value> states, parameters;
  /// What the call returns beside the sequence, by layer and direction.
  SmallVector<Value> lastHidden, lastCell;
};

} // namespace

SmallVector<Value> Expander::getTensors(Attribute argument) {
  SmallVector<Value> values;
  auto list = dyn_cast<ArrayAttr>(argument);
  for (Attribute element : list ? list.getValue() : ArrayRef(argument))
    if (auto operand = dyn_cast<OperandAttr>(element))
      values.push_back(call.getInputs()[operand.getIndex()]);
  return values;
}

/// (input, states, parameters, has_biases, layers, dropout, train, bidirectional, batch_first)
bool Expander::read() {
  kind = llvm::StringSwitch<StringRef>(call.getName())
             .Case("aten::lstm.input", "lstm")
             .Case("aten::gru.input", "gru")
             .Case("aten::rnn_tanh.input", "tanh")
             .Case("aten::rnn_relu.input", "relu")
             .Default("");
  if (kind.empty() || call.getBatched() || call.getArguments().size() != 9)
    return false;
  SmallVector<Value> sequence = getTensors(call.getArguments()[0]);
  auto count = dyn_cast<IntegerAttr>(call.getArguments()[4]);
  std::optional<bool> bias = getFlag(3), train = getFlag(6), both = getFlag(7), first = getFlag(8);
  auto dropout = dyn_cast<FloatAttr>(call.getArguments()[5]);
  if (sequence.size() != 1 || !count || !bias || !train || !both || !first || !dropout)
    return false;
  isLstm = kind == "lstm";
  layers = count.getInt();
  hasBias = *bias;
  isBidirectional = *both;
  batchFirst = *first;
  input = sequence.front();
  states = getTensors(call.getArguments()[1]);
  parameters = getTensors(call.getArguments()[2]);
  if (differentiate && isa<Float16Type, BFloat16Type>(ranked(input).getElementType()))
    return false;
  int64_t directions = isBidirectional ? 2 : 1;
  bool drops = *train && layers > 1 && dropout.getValueAsDouble() != 0;
  // A projection has a fifth parameter per layer.
  return !drops && layers > 0 && states.size() == (isLstm ? 2 : 1) && ranked(input).getRank() == 3 &&
         ranked(states.front()).getRank() == 3 && states.front().getType() == states.back().getType() &&
         static_cast<int64_t>(parameters.size()) == layers * directions * (hasBias ? 4 : 2) &&
         isa<FloatType>(ranked(input).getElementType()) && !ranked(input).isDynamicDim(batchFirst ? 1 : 0);
}

Value Expander::getLast(Value sequence, bool reverse) {
  return SelectOp::create(builder, sequence, /*dim=*/1, reverse ? 0 : ranked(sequence).getDimSize(1) - 1);
}

/// The sequence of hidden states of one direction of a layer, [batch, time, width].
Value Expander::buildDirection(Value sequence, unsigned index, bool reverse) {
  ArrayRef<Value> own = ArrayRef(parameters).slice(index * (hasBias ? 4 : 2), hasBias ? 4 : 2);
  Value hidden = SelectOp::create(builder, states[0], /*dim=*/0, index), cell;
  if (isLstm)
    cell = SelectOp::create(builder, states[1], /*dim=*/0, index);
  width = ranked(hidden).getShape().back();
  bool keepCells = isLstm && !call.getResult(2).use_empty();
  SmallVector<int64_t> shape(ranked(sequence).getShape());
  shape.back() = width * (keepCells ? 2 : 1);
  auto type = RankedTensorType::get(shape, ranked(sequence).getElementType());
  Value result = RecurrenceOp::create(builder, type, kind, sequence, own[0], own[1], hidden, cell,
                                      hasBias ? own[2] : Value(), hasBias ? own[3] : Value(), reverse, keepCells);
  if (keepCells) {
    Value cells = SliceOp::create(builder, result, /*dim=*/2, /*start=*/width, /*end=*/2 * width, /*step=*/1);
    result = SliceOp::create(builder, result, /*dim=*/2, /*start=*/0, /*end=*/width, /*step=*/1);
    lastCell.push_back(getLast(cells, reverse));
  }
  if (!call.getResult(1).use_empty())
    lastHidden.push_back(getLast(result, reverse));
  return result;
}

bool Expander::run() {
  if (!read())
    return false;
  const SmallVector<int64_t> swap = {1, 0, 2};
  Value sequence = batchFirst ? input : PermuteOp::create(builder, input, swap).getResult();
  for (int64_t layer = 0; layer < layers; ++layer) {
    if (!isBidirectional) {
      sequence = buildDirection(sequence, layer, /*reverse=*/false);
      continue;
    }
    Value forward = buildDirection(sequence, 2 * layer, /*reverse=*/false);
    Value backward = buildDirection(sequence, 2 * layer + 1, /*reverse=*/true);
    sequence = CatOp::create(builder, ValueRange{forward, backward}, /*dim=*/2);
  }
  if (!batchFirst)
    sequence = PermuteOp::create(builder, sequence, swap);
  call.getResult(0).replaceAllUsesWith(sequence);
  const ArrayRef<Value> lasts[] = {lastHidden, lastCell};
  for (auto [i, last] : llvm::enumerate(lasts))
    if (!last.empty())
      call.getResult(i + 1).replaceAllUsesWith(StackOp::create(builder, last, /*dim=*/0));
  call.erase();
  return true;
}

namespace {
struct ExpandRecurrences : mlir::pfcn::impl::ExpandRecurrencesPassBase<ExpandRecurrences> {
  using ExpandRecurrencesPassBase::ExpandRecurrencesPassBase;
  void runOnOperation() override {
    SmallVector<OpaqueOp> calls;
    getOperation().walk(
        [&](InstancesOp group) { llvm::append_range(calls, group.getBodyBlock()->getOps<OpaqueOp>()); });
    for (OpaqueOp call : calls)
      Expander(call, differentiate).run();
  }
};
} // namespace
