//===- Recurrent.cpp - RNN, LSTM and GRU ------------------------------------------===//
//
// A cell is what torch calls for it. A layer over a short sequence is its steps, written out, after one
// product for the inputs of all steps.
//
//===----------------------------------------------------------------------------===//

#include "Compose.h"

namespace pfcn {
using namespace mlir;
using namespace mlir::pfcn;

namespace {
/// What a cell keeps from step to step; only an LSTM has a cell state.
struct State {
  Expr hidden, cell;
};
struct Weights {
  Expr input, hidden, inputBias, hiddenBias;
};
using Step = State (*)(Expr projected, State state, const Weights &weights);
} // namespace

static Expr project(Expr x, Expr weight, Expr bias) { return x.make<LinearOp>(x.value, weight.value, bias.value); }

/// Part `i` of `count` of the last dimension.
static Expr part(Expr x, int64_t i, int64_t count) {
  int64_t dim = x.rank() - 1, size = x.size(dim) / count;
  return x.slice(dim, i * size, (i + 1) * size);
}

static State stepLstm(Expr projected, State state, const Weights &weights) {
  Expr gates = projected + project(state.hidden, weights.hidden, weights.hiddenBias);
  Expr input = sigmoid(part(gates, 0, 4)), forget = sigmoid(part(gates, 1, 4));
  Expr candidate = tanh(part(gates, 2, 4)), output = sigmoid(part(gates, 3, 4));
  Expr cell = forget * state.cell + input * candidate;
  return {output * tanh(cell), cell};
}

static State stepGru(Expr projected, State state, const Weights &weights) {
  Expr hidden = project(state.hidden, weights.hidden, weights.hiddenBias);
  Expr reset = sigmoid(part(projected, 0, 3) + part(hidden, 0, 3));
  Expr update = sigmoid(part(projected, 1, 3) + part(hidden, 1, 3));
  Expr candidate = tanh(part(projected, 2, 3) + reset * part(hidden, 2, 3));
  return {(state.hidden - candidate) * update + candidate, {}};
}

static State stepTanh(Expr projected, State state, const Weights &weights) {
  return {tanh(projected + project(state.hidden, weights.hidden, weights.hiddenBias)), {}};
}

static State stepRelu(Expr projected, State state, const Weights &weights) {
  return {(projected + project(state.hidden, weights.hidden, weights.hiddenBias)).apply<ReluOp>(), {}};
}

static Expr getExpr(CallImporter &call, Value value) { return {&call.builder, call.loc, value}; }

/// Whether all are of the result's floating-point type, f32 or f64: torch rounds others at each step.
static bool haveOneType(const CallImporter &call, ArrayRef<Value> values) {
  at::ScalarType dtype = call.resultDtype();
  Type element = getElementType(call.builder.getContext(), dtype);
  return (dtype == at::kFloat || dtype == at::kDouble) && llvm::all_of(values, [&](Value value) {
           return !value || cast<RankedTensorType>(value.getType()).getElementType() == element;
         });
}

//===----------------------------------------------------------------------------===//
// Cells
//===----------------------------------------------------------------------------===//

/// (input, hx, w_ih, w_hh, b_ih, b_hh), hx a tensor or a list of two.
template <Step step, bool hasCell> static bool cell(CallImporter &call) {
  SmallVector<Value> values = hasCell ? call.tensors(1) : SmallVector<Value>{call.tensor(1)};
  for (size_t i : {0, 2, 3, 4, 5})
    values.push_back(call.tensor(i));
  if (!haveOneType(call, values) || call.meta(0).rank() != 2)
    return false;
  Weights weights{getExpr(call, call.tensor(2)), getExpr(call, call.tensor(3)), getExpr(call, call.tensor(4)),
                  getExpr(call, call.tensor(5))};
  State state{getExpr(call, values[0]), hasCell ? getExpr(call, values[1]) : Expr()};
  State next = step(project(getExpr(call, call.tensor(0)), weights.input, weights.inputBias), state, weights);
  call.finish(next.hidden.value);
  return !hasCell || call.finish(next.cell.value);
}

//===----------------------------------------------------------------------------===//
// Layers
//===----------------------------------------------------------------------------===//

namespace {
/// (input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first)
struct Layers {
  Expr input; // [time, batch, features]
  SmallVector<Value> parameters;
  SmallVector<Expr> hidden, cell; // one per layer and direction
  bool hasBiases, isBidirectional;
  int64_t count;

  Weights getWeights(CallImporter &call, size_t index) const {
    size_t each = hasBiases ? 4 : 2;
    auto get = [&](size_t i) { return i < each ? getExpr(call, parameters[index * each + i]) : Expr(); };
    return {get(0), get(1), get(2), get(3)};
  }
};
} // namespace

/// One direction over the whole sequence: the hidden state of each step, and the last state.
static std::pair<Expr, State> runDirection(Expr input, State state, const Weights &weights, Step step,
                                           bool isReversed) {
  Expr projected = project(input, weights.input, weights.inputBias);
  int64_t length = input.size(0);
  SmallVector<Expr> outputs(length);
  for (int64_t i = 0; i < length; ++i) {
    int64_t time = isReversed ? length - 1 - i : i;
    state = step(projected.select(0, time), state, weights);
    outputs[time] = state.hidden;
  }
  return {stack(outputs, 0), state};
}

template <Step step, bool hasCell> static bool layers(CallImporter &call) {
  // Of all layers: the code grows by each, and that of the gradient several times as much.
  const int64_t mostSteps = call.isFollowed() ? 4 : 32;
  SmallVector<Value> states = hasCell ? call.tensors(1) : SmallVector<Value>{call.tensor(1)};
  SmallVector<Value> all(states);
  Layers layers{getExpr(call, call.tensor(0)), call.tensors(2), {}, {}, call.flag(3), call.flag(7), call.integer(4)};
  llvm::append_range(all, layers.parameters);
  all.push_back(call.tensor(0));
  int64_t directions = layers.isBidirectional ? 2 : 1, cells = layers.count * directions;
  bool drops = call.flag(6) && call.number(5) != 0.0;
  if (!haveOneType(call, all) || drops || call.meta(0).rank() != 3 ||
      static_cast<int64_t>(layers.parameters.size()) != cells * (layers.hasBiases ? 4 : 2))
    return false; // projections have more
  if (call.flag(8))
    layers.input = layers.input.permute({1, 0, 2});
  int64_t length = layers.input.size(0);
  if (ShapedType::isDynamic(length) || length < 1 || length * cells > mostSteps)
    return false;
  for (int64_t i = 0; i < cells; ++i) {
    layers.hidden.push_back(getExpr(call, states[0]).select(0, i));
    layers.cell.push_back(hasCell ? getExpr(call, states[1]).select(0, i) : Expr());
  }
  for (int64_t layer = 0; layer < layers.count; ++layer) {
    SmallVector<Expr> outputs;
    for (int64_t direction = 0; direction < directions; ++direction) {
      int64_t index = layer * directions + direction;
      State first{layers.hidden[index], layers.cell[index]};
      auto [output, last] = runDirection(layers.input, first, layers.getWeights(call, index), step, direction == 1);
      outputs.push_back(output);
      layers.hidden[index] = last.hidden;
      layers.cell[index] = last.cell;
    }
    layers.input = cat(outputs, 2);
  }
  call.finish((call.flag(8) ? layers.input.permute({1, 0, 2}) : layers.input).value);
  call.finish(stack(layers.hidden, 0).value);
  return !hasCell || call.finish(stack(layers.cell, 0).value);
}

void addRecurrent(AtenTable &table) {
  table.add({"lstm_cell"}, cell<stepLstm, true>);
  table.add({"gru_cell"}, cell<stepGru, false>);
  table.add({"rnn_tanh_cell"}, cell<stepTanh, false>);
  table.add({"rnn_relu_cell"}, cell<stepRelu, false>);
  table.addSmooth({"lstm.input"}, layers<stepLstm, true>);
  table.addSmooth({"gru.input"}, layers<stepGru, false>);
  table.addSmooth({"rnn_tanh.input"}, layers<stepTanh, false>);
  table.addSmooth({"rnn_relu.input"}, layers<stepRelu, false>);
}

} // namespace pfcn
