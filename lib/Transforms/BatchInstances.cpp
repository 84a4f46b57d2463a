//===- BatchInstances.cpp - pfcn.instances to pfcn.kernel -------------------------===//
//
// Walks the body once, asking each op for its batched form. No switch over op names: an op
// without the interface leaves its group as it is.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Transforms/Explain.h"
#include "pfcn/Transforms/Passes.h"

#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/Remarks.h"

namespace mlir::pfcn {
#define GEN_PASS_DEF_BATCHINSTANCESPASS
#include "pfcn/Transforms/Passes.h.inc"
} // namespace mlir::pfcn

using namespace mlir;
using namespace mlir::pfcn;

namespace {

class Batcher {
public:
  explicit Batcher(InstancesOp op) : op(op), count(op.getCount()), builder(op) {}

  /// The op of the body that cannot be batched, or null: then the kernel is there.
  Operation *run();

private:
  void buildInputs();
  void buildInits();
  KernelOp buildKernel();
  LogicalResult batch(Operation *inner);
  Value materialize(Location loc, BatchedValue value);
  BatchedValue lookup(Value value) const { return values.lookup(value); }
  RankedTensorType getStackedType(AccessAttr access, Value whole) const {
    return access.getBatchedType(ranked(whole), count);
  }

  InstancesOp op;
  int64_t count;
  OpBuilder builder;
  SmallVector<Value> inputs, inits;
  SmallVector<Attribute> inputAccesses, initAccesses;
  DenseMap<Value, BatchedValue> values;
};

} // namespace

/// A kernel reads shared tensors and arithmetic progressions in place, and the rest gathered.
void Batcher::buildInputs() {
  for (auto [i, input] : llvm::enumerate(op.getInputs())) {
    AccessAttr access = op.getInputAccess(i);
    if (access.isShared() || access.isAffine()) {
      inputs.push_back(input);
      inputAccesses.push_back(access);
      continue;
    }
    inputs.push_back(GatherInstancesOp::create(builder, op.getLoc(), getStackedType(access, input), input, access,
                                               /*sizes=*/nullptr));
    inputAccesses.push_back(AccessAttr::getSelect(op.getContext(), 0));
  }
}

/// Sizes of a tensor that holds what the instances write to `whole`, for `pfcn.empty`.
static SmallVector<Value> getSizes(OpBuilder &builder, Location loc, Value whole, AccessAttr access) {
  SmallVector<Value> sizes;
  for (int64_t dim = 0; dim < ranked(whole).getRank(); ++dim)
    if (ranked(whole).isDynamicDim(dim) && dim != access.getDim())
      sizes.push_back(tensor::DimOp::create(builder, loc, whole, dim));
  return sizes;
}

void Batcher::buildInits() {
  for (auto [i, init] : llvm::enumerate(op.getInits())) {
    AccessAttr access = op.getInitAccess(i);
    if (access.isAffine()) {
      inits.push_back(init);
      initAccesses.push_back(access);
      continue;
    }
    SmallVector<Value> sizes = getSizes(builder, op.getLoc(), init, access);
    inits.push_back(EmptyOp::create(builder, op.getLoc(), getStackedType(access, init), sizes));
    initAccesses.push_back(AccessAttr::getSelect(op.getContext(), 0));
  }
}

KernelOp Batcher::buildKernel() {
  auto kernel = KernelOp::create(builder, op.getLoc(), TypeRange(ValueRange(inits)), op.getName(), count, inputs, inits,
                                 builder.getArrayAttr(inputAccesses), builder.getArrayAttr(initAccesses));
  for (StringRef name : {gradientAttrName, instanceAttrName, declinedAttrName})
    if (Attribute attribute = op->getAttr(name))
      kernel->setAttr(name, attribute);
  Block &body = kernel.getBody().emplaceBlock();
  for (auto [i, argument] : llvm::enumerate(op.getBodyBlock()->getArguments())) {
    AccessAttr access = kernel.getInputAccess(i);
    Value batched = body.addArgument(getStackedType(access, kernel.getInputs()[i]), argument.getLoc());
    values[argument] = {batched, !access.isShared()};
  }
  return kernel;
}

LogicalResult Batcher::batch(Operation *inner) {
  SmallVector<BatchedValue> operands =
      llvm::map_to_vector(inner->getOperands(), [&](Value operand) { return lookup(operand); });
  if (llvm::none_of(operands, [](const BatchedValue &operand) { return operand.batched; })) {
    Operation *copy = builder.insert(inner->clone()); // computed once for all instances
    for (auto [i, operand] : llvm::enumerate(operands))
      copy->setOperand(i, operand.value);
    for (auto [old, result] : llvm::zip_equal(inner->getResults(), copy->getResults()))
      values[old] = {result, false};
    return success();
  }
  auto batchable = dyn_cast<BatchingOpInterface>(inner);
  if (!batchable)
    return failure();
  FailureOr<SmallVector<Value>> results = batchable.batch(builder, operands, count);
  if (failed(results))
    return failure();
  for (auto [old, result] : llvm::zip_equal(inner->getResults(), *results))
    values[old] = {result, true};
  return success();
}

/// A result that is the same for all instances is repeated.
Value Batcher::materialize(Location loc, BatchedValue value) {
  if (value.batched)
    return value.value;
  SmallVector<int64_t> shape(value.getType().getShape());
  shape.insert(shape.begin(), count);
  Value result = UnsqueezeOp::create(builder, loc, value.value, 0);
  return ExpandOp::create(builder, loc, RankedTensorType::get(shape, value.getType().getElementType()), result);
}

Operation *Batcher::run() {
  buildInputs();
  buildInits();
  KernelOp kernel = buildKernel();
  builder.setInsertionPointToEnd(kernel.getBodyBlock());
  for (Operation &inner : op.getBodyBlock()->without_terminator())
    if (failed(batch(&inner))) {
      kernel.erase();
      return &inner;
    }
  SmallVector<Value> yielded;
  for (Value value : op.getYielded())
    yielded.push_back(materialize(op.getLoc(), lookup(value)));
  YieldOp::create(builder, op.getLoc(), yielded);
  builder.setInsertionPoint(op);
  for (auto [i, result] : llvm::enumerate(kernel.getResults())) {
    Value whole = result;
    if (AccessAttr access = op.getInitAccess(i); !access.isAffine())
      whole = ScatterInstancesOp::create(builder, op.getLoc(), result, op.getInits()[i], access);
    op.getResult(i).replaceAllUsesWith(whole);
  }
  op.erase();
  return nullptr;
}

namespace {

struct BatchInstances : mlir::pfcn::impl::BatchInstancesPassBase<BatchInstances> {
  void runOnOperation() override {
    SmallVector<InstancesOp> groups;
    getOperation().walk([&](InstancesOp op) { groups.push_back(op); });
    for (InstancesOp op : groups) {
      Operation *before = op->getPrevNode();
      Operation *culprit = Batcher(op).run();
      if (!culprit)
        continue;
      while (op->getPrevNode() != before) // gathers and empty tensors that no kernel reads
        op->getPrevNode()->erase();
      std::string reason = (culprit->getName().getStringRef() + " has no batched form").str();
      op->setAttr(declinedAttrName, StringAttr::get(&getContext(), reason));
      std::lock_guard<std::mutex> lock(getExplainMutex());
      remark::missed(culprit->getLoc(), remark::RemarkOpts::name("BatchInstances").category("pfcn.fusion"))
          << remark::reason("{0}, so group {1} runs instance by instance", reason, op.getName());
    }
  }
};

} // namespace
