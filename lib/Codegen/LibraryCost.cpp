//===- LibraryCost.cpp - what a kernel would cost on torch's functions -------------===//
//===----------------------------------------------------------------------------===//

#include "pfcn/Codegen/LibraryCost.h"

#include "pfcn/Analysis/Work.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::pfcn;

// The part of an operand that is one instance's, of a call.
constexpr double viewsPerCall = 0.2;
constexpr double transcendentalCost = 16; // of a recurrence's gates
// Matrices that are read row by row come from memory less evenly than one stream does.
constexpr double rowsFactor = 1.5;

/// Larger tensors than this come fresh from the system each time, page by page.
static double getFreshCost(double bytes) {
  constexpr double largestKept = 32 << 20, perLine = 40;
  return bytes > largestKept ? bytes / 64 * perLine : 0;
}

/// A convolution in as many groups as there are instances. Those of few channels run at a fraction of the rate.
static double estimateConv(ConvOp op, double lanes, double rate) {
  constexpr double channelsForFullRate = 64;
  double inputChannels = static_cast<double>(
      ranked(op.getWeight()).getShape().take_back(op.getStride().size() + 1).front()); // outputs of a transposed one
  double part = std::clamp(inputChannels / channelsForFullRate, 0.05, 1.0);
  return countElements(op.getResult()) * getDepth(op) / lanes / (rate * part);
}

/// Narrow matrices leave most of a library's tiles empty, as few rows do; one row is read where it lies.
static double estimateProduct(Operation *op, double lanes, double rate, double matrixCost) {
  constexpr double widthForFullRate = 64, rowsForFullRate = 32;
  ArrayRef<int64_t> shape = ranked(op->getResult(0)).getShape();
  double width = std::min(static_cast<double>(assumeSize(shape.back())), getDepth(op));
  rate *= std::clamp(width / widthForFullRate, 0.05, 1.0);
  double rows = 1;
  if (shape.size() > 1)
    rows = isa<LinearOp>(op) ? countElements(op->getResult(0)) / static_cast<double>(assumeSize(shape.back()))
                             : static_cast<double>(assumeSize(shape[shape.size() - 2]));
  if (rows > 1)
    rate *= std::clamp(rows / rowsForFullRate, 0.25, 1.0);
  double matrices = 1;
  if (!isa<LinearOp>(op)) // whose rows are all one matrix
    for (int64_t size : ranked(op->getResult(0)).getShape().drop_back(2))
      matrices *= assumeSize(size);
  return countElements(op->getResult(0)) * getDepth(op) / lanes / rate + matrices * matrixCost;
}

/// What torch's function takes for as many elements as a vector has, in vector operations: of f32 on one core, to
/// within a factor of two. What streams through it is counted apart.
static double getVectorCost(Operation *op, bool isAttention) {
  constexpr double cheap = 0, fold = 12, plain = 16, root = 33, exponential = 60, composite = 90, trigonometric = 120,
                   table = 250, branches = 400;
  return llvm::TypeSwitch<Operation *, double>(op)
      .Case<AddOp, SubOp, MulOp, ReluOp, CompareOp>([&](auto) { return cheap; })
      .Case<SumOp, MeanOp, AmaxOp, AminOp>([&](auto) { return fold; })
      .Case<SqrtOp, RsqrtOp>([&](auto) { return root; })
      .Case<ExpOp, Expm1Op, LogOp, Log1pOp, Exp2Op, Log2Op, Log10Op, LogSoftmaxOp, LayerNormOp>(
          [&](auto) { return exponential; })
      // Fused attention takes its scores row by row.
      .Case<SoftmaxOp>([&](auto) { return isAttention ? table : exponential; })
      .Case<EluOp, SoftplusOp>([&](auto) { return composite; })
      .Case<ErfOp, SinOp, CosOp, PowOp>([&](auto) { return trigonometric; })
      .Case<TanhOp, AtanOp, MishOp>([&](auto) { return table; })
      .Case<WhereOp>([&](auto) { return branches; })
      .Default([&](auto) { return plain; });
}

namespace {

/// The ops of a body one by one.
class Estimate {
public:
  /// `instances`: as many as the ops are for; they run so many times, each time with arguments that lie elsewhere.
  Estimate(const CpuMachine &machine, int64_t instances, int64_t times)
      : machine(machine), lanes(machine.vectorBytes / 4.0), rate(machine.libraryRate > 0 ? machine.libraryRate : 1.0),
        instances(instances), times(times) {}

  /// False for an op that has no estimate.
  bool addBody(Block &body) {
    return llvm::all_of(body.without_terminator(), [&](Operation &op) { return add(&op); });
  }
  void addCopy(Value value) { addCall(0, machine.getStreamCost(2 * countBytes(value))); }
  double getCost() const { return cost; }
  bool hasProduct() const { return products != 0; }

private:
  void addCall(double compute, double stream) {
    cost += machine.getCallCost() + std::max(compute, rowsFactor * stream);
  }

  double getStreamCost(Operation *op) {
    double arguments = 0;
    for (Value operand : op->getOperands())
      if (isa<BlockArgument>(operand))
        arguments += countBytes(operand);
    double all = countBytes(op);
    if (times == 1)
      return machine.getStreamCost(all);
    return machine.getStreamCost(all - arguments) + machine.getStreamCost(arguments * times) / times;
  }

  bool add(Operation *op) {
    if (!isa<PfcnDialect>(op->getDialect()) || isa<OpaqueOp>(op))
      return false;
    if (isFree(op))
      return true;
    if (auto recurrence = dyn_cast<RecurrenceOp>(op)) {
      addRecurrence(recurrence, countElements(recurrence.getHidden()),
                    static_cast<double>(ranked(recurrence.getInput()).getShape().back() + recurrence.getWidth()));
      return true;
    }
    if (auto adjoint = dyn_cast<RecurrenceAdjointOp>(op)) {
      addRecurrence(adjoint, countElements(adjoint.getUpstream()) / getSteps(adjoint),
                    static_cast<double>(adjoint.getWidth()));
      return true;
    }
    addCall(getCompute(op, /*isAttention=*/false), getStreamCost(op));
    for (Value result : op->getResults())
      cost += getFreshCost(countBytes(result));
    return true;
  }

  double getCompute(Operation *op, bool isAttention) {
    products += isProduct(op);
    if (auto conv = dyn_cast<ConvOp>(op))
      return estimateConv(conv, lanes, rate);
    if (isProduct(op))
      return estimateProduct(op, lanes, rate, machine.getMatrixCost());
    if (auto composed = dyn_cast<ComposedOp>(op)) {
      double compute = 0; // a function of torch's that keeps what lies between its steps in caches, or a few calls
      auto ops = composed.getBodyBlock()->without_terminator();
      bool multiplies = llvm::any_of(ops, [](Operation &inner) { return isProduct(&inner); });
      for (Operation &inner : ops)
        compute += getCompute(&inner, multiplies) + (isFree(&inner) ? 0 : machine.getCallCost() / 4);
      return compute;
    }
    if (isFree(op))
      return 0;
    // A reduction reads more than it writes.
    double elements = countElements(op->getResult(0));
    if (isa<SumOp, MeanOp, AmaxOp, AminOp>(op))
      elements = countElements(op->getOperand(0));
    return elements / lanes * getVectorCost(op, isAttention);
  }

  static double getSteps(auto op) { return static_cast<double>(assumeSize(op.getSteps())); }

  /// Per step two products and some ten elementwise calls, which read and write tensors of the size of the gates.
  void addRecurrence(auto op, double states, double depth) {
    ++products;
    double gates = states * RecurrenceOp::getGateCount(op.getKind());
    double multiply = gates * depth / lanes / rate + 2 * static_cast<double>(instances) * machine.getMatrixCost();
    double pointwise =
        gates / lanes * transcendentalCost + 10 * rowsFactor * machine.getStreamCost(3 * gates * sizeof(float));
    cost += getSteps(op) * (12 * machine.getCallCost() + multiply + pointwise);
  }

  const CpuMachine &machine;
  double lanes, rate, cost = 0;
  int64_t instances, times;
  int64_t products = 0;
};

} // namespace

std::optional<LibraryCost> mlir::pfcn::estimateLibrary(KernelOp kernel, const CpuMachine &machine) {
  Estimate batched(machine, kernel.getCount(), /*times=*/1), single(machine, /*instances=*/1, kernel.getCount());
  if (!batched.addBody(*kernel.getBodyBlock()))
    return std::nullopt;
  for (Value value : kernel.getYielded()) // copied to where it belongs
    batched.addCopy(value);
  LibraryCost cost{batched.getCost(), std::nullopt, batched.hasProduct()};
  auto name = kernel->getAttrOfType<FlatSymbolRefAttr>(instanceAttrName);
  auto function = name ? SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(kernel, name) : func::FuncOp();
  if (!function || !single.addBody(function.getBody().front()))
    return cost;
  for (Value value : function.getBody().front().getTerminator()->getOperands())
    single.addCopy(value);
  double views =
      viewsPerCall * machine.getCallCost() * static_cast<double>(kernel.getInputs().size() + kernel.getInits().size());
  cost.single = kernel.getCount() * (single.getCost() + views);
  return cost;
}
