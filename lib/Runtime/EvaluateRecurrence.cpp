//===- EvaluateRecurrence.cpp - recurrent layers on torch tensors ------------------===//
//
// Step by step, for all instances at once: where no kernel has taken the layer.
//
//===----------------------------------------------------------------------------===//

#include "EvaluateRecurrence.h"

#include "pfcn/Dialect/Pfcn.h"

#include <ATen/ATen.h>

using mlir::pfcn::RecurrenceAdjointOp;
using mlir::pfcn::RecurrenceOp;

namespace pfcn::runtime {

namespace {
struct Operands {
  at::Tensor input, weight, hiddenWeight, hidden, cell, bias, hiddenBias;
};

/// [..., gates · width] as it is added to gates of the rank of the states.
at::Tensor alignBias(const at::Tensor &bias, int64_t rank) {
  return bias.defined() && bias.dim() == 2 && rank > 2 ? bias.unsqueeze(1) : bias;
}

at::Tensor project(const at::Tensor &state, const at::Tensor &weight, const at::Tensor &bias) {
  at::Tensor product = at::matmul(state, weight.mT());
  return bias.defined() ? product.add_(alignBias(bias, state.dim())) : product;
}

/// One step; replaces the states.
void step(const std::string &kind, const at::Tensor &fromInput, Operands &operands) {
  at::Tensor fromHidden = project(operands.hidden, operands.hiddenWeight, operands.hiddenBias);
  if (kind == "gru") {
    auto outer = fromInput.chunk(3, -1), inner = fromHidden.chunk(3, -1);
    at::Tensor fresh = at::tanh(outer[2] + at::sigmoid(outer[0] + inner[0]) * inner[2]);
    operands.hidden = (operands.hidden - fresh) * at::sigmoid(outer[1] + inner[1]) + fresh;
    return;
  }
  at::Tensor gates = fromInput + fromHidden;
  if (kind != "lstm") {
    operands.hidden = kind == "tanh" ? at::tanh(gates) : at::relu(gates);
    return;
  }
  auto parts = gates.chunk(4, -1);
  operands.cell = at::sigmoid(parts[1]) * operands.cell + at::sigmoid(parts[0]) * at::tanh(parts[2]);
  operands.hidden = at::sigmoid(parts[3]) * at::tanh(operands.cell);
}
} // namespace

Evaluator makeRecurrence(RecurrenceOp op) {
  return
      [kind = op.getKind().str(), hasCell = static_cast<bool>(op.getCell()), hasBias = static_cast<bool>(op.getBias()),
       reverse = op.getReverse(), keepCells = op.getKeepCells()](TensorRange values) -> TensorVector {
        Operands operands{values[0], values[1], values[2], values[3], {}, {}, {}};
        size_t next = 4;
        if (hasCell)
          operands.cell = values[next++];
        if (hasBias) {
          operands.bias = values[next++];
          operands.hiddenBias = values[next];
        }
        int64_t time = operands.input.dim() - 2, steps = operands.input.size(time);
        std::vector<at::Tensor> states(steps);
        for (int64_t i = 0; i < steps; ++i) {
          int64_t at = reverse ? steps - 1 - i : i;
          step(kind, project(operands.input.select(time, at), operands.weight, operands.bias), operands);
          states[at] = keepCells ? at::cat({operands.hidden, operands.cell}, -1) : operands.hidden;
        }
        return {at::stack(states, time)};
      };
}

Evaluator makeRecurrenceAdjoint(RecurrenceAdjointOp op) {
  return [kind = op.getKind().str(), hasCell = static_cast<bool>(op.getCellUpstream()),
          reverse = op.getReverse()](TensorRange values) -> TensorVector {
    const at::Tensor &upstream = values[0], &weight = values[2];
    int64_t time = upstream.dim() - 2, steps = upstream.size(time);
    bool isLstm = kind == "lstm", isGru = kind == "gru";
    at::Tensor hidden, cell; // what the step behind carries back
    std::vector<at::Tensor> results(steps);
    for (int64_t i = 0; i < steps; ++i) {
      int64_t at = reverse ? i : steps - 1 - i;
      auto factors = values[1].select(time, at).split(upstream.size(-1), -1);
      at::Tensor own = upstream.select(time, at);
      hidden = hidden.defined() ? own + hidden : own;
      std::vector<at::Tensor> gates;
      if (isLstm) {
        at::Tensor carried = hidden * factors[4];
        if (cell.defined())
          carried = carried + cell;
        cell = hasCell ? carried + values[3].select(time, at) : carried;
        gates = {cell * factors[0], cell * factors[1], cell * factors[2], hidden * factors[3]};
      } else {
        for (int64_t gate = 0; gate < (isGru ? 3 : 1); ++gate)
          gates.push_back(hidden * factors[gate]);
      }
      at::Tensor joined = at::cat(gates, -1);
      if (isLstm || isGru)
        gates.push_back(isLstm ? cell : hidden);
      results[at] = at::cat(gates, -1);
      at::Tensor back = at::matmul(joined, weight);
      hidden = isGru ? back + hidden * factors[3] : back;
      if (isLstm)
        cell = cell * factors[5];
    }
    return {at::stack(results, time)};
  };
}

} // namespace pfcn::runtime
