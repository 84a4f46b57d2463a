//===- Plan.cpp - a compiled model as a short list of steps ------------------------===//
//
// One visit per op of `forward`, in order, so effects keep their order. A group writes into its
// destination where nothing else can see that tensor, and into a fresh one elsewhere.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Runtime/Plan.h"

#include "pfcn/Dialect/Pfcn.h"
#include "pfcn/Runtime/Autograd.h"
#include "pfcn/Runtime/CudaLaunch.h"
#include "pfcn/Runtime/Launch.h"
#include "pfcn/Runtime/Memory.h"
#include "pfcn/Runtime/Opaque.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/SmallPtrSet.h"
#include "llvm/ADT/TypeSwitch.h"

#include <ATen/Functions.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <ATen/record_function.h>

#include <numeric>

using namespace mlir::pfcn;

namespace pfcn::runtime {

const char *getName(StepKind kind) {
  switch (kind) {
  case StepKind::Kernel:
    return "kernel";
  case StepKind::Library:
    return "library";
  case StepKind::Operator:
    return "operator";
  case StepKind::View:
    return "view";
  case StepKind::Allocation:
    return "allocation";
  case StepKind::Copy:
    return "copy";
  }
  return "";
}

//===----------------------------------------------------------------------------===//
// Types of tensors
//===----------------------------------------------------------------------------===//

static TensorSpec makeSpec(mlir::Type type) {
  auto tensor = mlir::cast<mlir::RankedTensorType>(type);
  TensorSpec spec{tensor.getShape().vec(), getScalarType(tensor.getElementType())};
  for (int64_t &size : spec.sizes)
    if (mlir::ShapedType::isDynamic(size))
      size = -1;
  return spec;
}

bool TensorSpec::matches(const at::Tensor &tensor) const {
  if (tensor.scalar_type() != dtype || tensor.dim() != static_cast<int64_t>(sizes.size()))
    return false;
  at::IntArrayRef given = tensor.sizes();
  for (size_t i = 0; i < sizes.size(); ++i)
    if (sizes[i] != given[i] && sizes[i] >= 0)
      return false;
  return true;
}

static std::string join(llvm::ArrayRef<int64_t> sizes) {
  std::string text = "[";
  for (size_t i = 0; i < sizes.size(); ++i)
    text += (i ? ", " : "") + (sizes[i] < 0 ? std::string("?") : std::to_string(sizes[i]));
  return text + "]";
}

std::string TensorSpec::str() const { return std::string(c10::toString(dtype)) + join(sizes); }

//===----------------------------------------------------------------------------===//
// Building
//===----------------------------------------------------------------------------===//

/// Turns the ops of one block into steps.
class PlanBuilder {
public:
  using Gradients = llvm::ArrayRef<std::shared_ptr<const Gradient>>;

  PlanBuilder(Program &program, Plan *plan, mlir::ModuleOp module, const KernelLookup &lookup,
              const std::shared_ptr<const CudaTarget> &cuda, Gradients gradients = {}, const Reach *reach = nullptr)
      : program(program), plan(plan), module(module), lookup(lookup), cuda(cuda), gradients(gradients), reach(reach) {
    if (cuda && !cuda->copies)
      memory = Memory::ofDevice(cuda);
  }

  void build(mlir::Block &block);
  /// The slot of the memory that was made for this value alone, into which a kernel writes it.
  std::optional<unsigned> findMemory(mlir::Value value) const;

private:
  unsigned define(mlir::Value value) { return slots[value] = program.tensorCount++; }
  unsigned defineIndex(mlir::Value value) { return slots[value] = program.indexCount++; }
  /// The slot of a value where torch's operators find it, copied from the device where it is only there.
  unsigned use(mlir::Value value);
  std::vector<unsigned> useAll(mlir::ValueRange values) {
    std::vector<unsigned> result;
    for (mlir::Value value : values)
      result.push_back(use(value));
    return result;
  }
  /// Whether kernels read and write memory of a device that no operator of torch does.
  bool copies() const { return cuda && cuda->copies; }
  Access makeAccess(AccessAttr attribute, int64_t count) const {
    Access access(attribute, count);
    if (cuda && !copies() && access.indices.defined())
      access.indices = access.indices.to(cuda->getTorchDevice());
    return access;
  }
  unsigned useByKernel(mlir::Value value);
  unsigned defineByKernel(mlir::Value value) {
    return copies() ? deviceSlots[value] = program.tensorCount++ : define(value);
  }
  void addStep(StepKind kind, std::string name, std::function<void(Frame &)> run) {
    program.steps.push_back({kind, std::move(name), std::move(run), {}});
  }

  void visit(mlir::Operation *op);
  bool visitIndex(mlir::Operation *op);
  void addLeaf(mlir::Operation *op, std::vector<std::string> paths, int64_t lanes, unsigned slot,
               bool onDevice = false);
  void visitParameter(ParameterOp op);
  void visitStack(ParameterStackOp op);
  unsigned useInput(LaunchOp op, size_t i);
  template <typename Fresh> void visitFresh(Fresh op, bool isZero);
  void visitLaunch(LaunchOp op);
  template <typename AnyLaunch> void addLaunch(LaunchOp op, AnyLaunch launch);
  ReachedFrom findReach(mlir::ValueRange values) const;
  void visitCompute(mlir::Operation *op);
  Evaluator makeGroupCall(mlir::Operation *op, llvm::StringRef group, llvm::StringRef callee);
  void visitGather(GatherInstancesOp op);
  void visitScatter(ScatterInstancesOp op);
  template <typename GroupOp> void visitGroup(GroupOp op);
  void freeDeadSlots(mlir::Block &block);

  Program &program;
  Plan *plan;
  mlir::ModuleOp module;
  const KernelLookup &lookup;
  const std::shared_ptr<const CudaTarget> &cuda;
  Gradients gradients;
  const Reach *reach;
  /// Of what torch's operators compute.
  Memory memory;
  llvm::DenseMap<mlir::Value, unsigned> slots;
  /// Where there are two memories: the slots of what kernels read and write.
  llvm::DenseMap<mlir::Value, unsigned> deviceSlots;
  llvm::DenseMap<std::pair<mlir::Value, int64_t>, unsigned> packedSlots;
  /// How many steps there were when an op was done: its last step is the one before.
  llvm::DenseMap<mlir::Operation *, size_t> stepsAfter;
};

static bool isIndex(mlir::Value value) { return value.getType().isIndex(); }

void PlanBuilder::build(mlir::Block &block) {
  for (mlir::BlockArgument argument : block.getArguments())
    program.inputs.push_back(define(argument));
  for (mlir::Operation &op : block.without_terminator()) {
    visit(&op);
    stepsAfter[&op] = program.steps.size();
  }
  program.outputs = useAll(block.getTerminator()->getOperands());
  freeDeadSlots(block);
}

std::optional<unsigned> PlanBuilder::findMemory(mlir::Value value) const {
  auto launch = value.getDefiningOp<LaunchOp>();
  if (!launch || cuda || !value.hasOneUse())
    return std::nullopt;
  mlir::Value init = launch.getInits()[mlir::cast<mlir::OpResult>(value).getResultNumber()];
  if (!init.getDefiningOp<EmptyOp>() || !init.hasOneUse())
    return std::nullopt;
  return slots.lookup(init);
}

/// Lets go of every tensor after its last use. Results of the block stay.
void PlanBuilder::freeDeadSlots(mlir::Block &block) {
  auto free = [&](mlir::Value value, unsigned slot) {
    if (isIndex(value))
      return;
    size_t last = value.getDefiningOp() ? stepsAfter.lookup(value.getDefiningOp()) : 0;
    bool escapes = false;
    for (mlir::Operation *user : value.getUsers()) {
      escapes |= user == block.getTerminator();
      last = std::max(last, stepsAfter.lookup(user));
    }
    if (!escapes && last > 0)
      program.steps[last - 1].dead.push_back(slot);
  };
  for (auto &[value, slot] : slots)
    free(value, slot);
  for (auto &[value, slot] : deviceSlots)
    free(value, slot);
}

//===----------------------------------------------------------------------------===//
// Two memories
//===----------------------------------------------------------------------------===//

unsigned PlanBuilder::use(mlir::Value value) {
  if (auto found = slots.find(value); found != slots.end())
    return found->second;
  auto onDevice = deviceSlots.find(value);
  TORCH_CHECK(onDevice != deviceSlots.end(), "pfcn: a value is used where the plan does not know it");
  unsigned source = onDevice->second, slot = define(value);
  addStep(StepKind::Copy, "to_host",
          [=, target = cuda](Frame &frame) { frame.tensors[slot] = download(*target, frame.tensors[source]); });
  return slot;
}

/// The slot of a value where a kernel finds it, copied to the device where it is only on the host.
unsigned PlanBuilder::useByKernel(mlir::Value value) {
  if (!copies())
    return use(value);
  if (auto found = deviceSlots.find(value); found != deviceSlots.end())
    return found->second;
  unsigned slot = program.tensorCount++;
  if (auto constant = value.getDefiningOp<ConstantOp>()) {
    at::Tensor dense = toDense(makeConstant(constant.getValue()));
    program.constants.push_back({slot, upload(*cuda, dense)});
    throwIfError(cuda->device->synchronize());
  } else {
    addStep(StepKind::Copy, "to_device", [=, source = use(value), target = cuda](Frame &frame) {
      frame.sources.push_back(toDense(frame.tensors[source]));
      frame.tensors[slot] = upload(*target, frame.sources.back());
    });
  }
  return deviceSlots[value] = slot;
}

static bool isReadByKernel(mlir::Value value) {
  return llvm::any_of(value.getUsers(), [](mlir::Operation *user) { return mlir::isa<LaunchOp>(user); });
}

static bool isReadByTorch(mlir::Value value) {
  return llvm::any_of(value.getUsers(),
                      [](mlir::Operation *user) { return !mlir::isa<LaunchOp, mlir::tensor::DimOp>(user); });
}

void PlanBuilder::visit(mlir::Operation *op) {
  if (visitIndex(op))
    return;
  llvm::TypeSwitch<mlir::Operation *>(op)
      .Case([&](ParameterOp leaf) { visitParameter(leaf); })
      .Case([&](ParameterStackOp leaf) { visitStack(leaf); })
      .Case([&](ConstantOp constant) {
        at::Tensor value = makeConstant(constant.getValue());
        program.constants.push_back(
            {define(constant.getResult()), cuda && !copies() ? value.to(cuda->getTorchDevice()) : value});
      })
      .Case([&](EmptyOp empty) { visitFresh(empty, /*isZero=*/false); })
      .Case([&](ZerosOp zeros) { visitFresh(zeros, /*isZero=*/true); })
      .Case([&](LaunchOp launch) { visitLaunch(launch); })
      .Case([&](GatherInstancesOp gather) { visitGather(gather); })
      .Case([&](ScatterInstancesOp scatter) { visitScatter(scatter); })
      .Case([&](KernelOp group) { visitGroup(group); })
      .Case([&](InstancesOp group) { visitGroup(group); })
      .Default([&](mlir::Operation *other) { visitCompute(other); });
}

/// Sizes of dynamic tensors and their arithmetic.
bool PlanBuilder::visitIndex(mlir::Operation *op) {
  namespace arith = mlir::arith;
  if (auto dim = mlir::dyn_cast<mlir::tensor::DimOp>(op)) {
    auto onDevice = deviceSlots.find(dim.getSource());
    unsigned source = onDevice != deviceSlots.end() ? onDevice->second : use(dim.getSource());
    unsigned slot = defineIndex(dim.getResult()), index = use(dim.getIndex());
    addStep(StepKind::View, "size",
            [=](Frame &frame) { frame.indices[slot] = frame.tensors[source].size(frame.indices[index]); });
    return true;
  }
  if (op->getNumResults() != 1 || !isIndex(op->getResult(0)))
    return false;
  unsigned slot = defineIndex(op->getResult(0));
  if (auto constant = mlir::dyn_cast<arith::ConstantIndexOp>(op)) {
    addStep(StepKind::View, "size", [=, value = constant.value()](Frame &frame) { frame.indices[slot] = value; });
    return true;
  }
  using Function = int64_t (*)(int64_t, int64_t);
  Function function = llvm::TypeSwitch<mlir::Operation *, Function>(op)
                          .Case<arith::AddIOp>([](auto) { return [](int64_t a, int64_t b) { return a + b; }; })
                          .Case<arith::SubIOp>([](auto) { return [](int64_t a, int64_t b) { return a - b; }; })
                          .Case<arith::MulIOp>([](auto) { return [](int64_t a, int64_t b) { return a * b; }; })
                          .Case<arith::DivUIOp, arith::DivSIOp>(
                              [](auto) { return [](int64_t a, int64_t b) { return b == 0 ? 0 : a / b; }; })
                          .Default([](auto) { return nullptr; });
  TORCH_CHECK_NOT_IMPLEMENTED(function, "pfcn: ", describe(op), " cannot be run as arithmetic on sizes");
  addStep(StepKind::View, "size", [=, lhs = use(op->getOperand(0)), rhs = use(op->getOperand(1))](Frame &frame) {
    frame.indices[slot] = function(frame.indices[lhs], frame.indices[rhs]);
  });
  return true;
}

/// The layout in which a launch wants its input i, 0 for torch's own.
static int64_t getPackedLanes(LaunchOp op, size_t i) {
  auto packed = op->getAttrOfType<mlir::DenseI64ArrayAttr>("pfcn.packed");
  return packed ? packed[i] : 0;
}

void PlanBuilder::addLeaf(mlir::Operation *op, std::vector<std::string> paths, int64_t lanes, unsigned slot,
                          bool onDevice) {
  TORCH_CHECK(plan, "pfcn: ", describe(op), " stands inside of a group");
  auto stack = mlir::dyn_cast<ParameterStackOp>(op);
  StackPadding padding;
  if (stack && stack.getSizes())
    padding = {static_cast<int64_t>(*stack.getDim()), stack.getSizes()->vec()};
  plan->leaves.push_back(
      {std::move(paths), stack != nullptr, lanes, onDevice, makeSpec(op->getResult(0).getType()), std::move(padding)});
  plan->leafSlots.push_back(slot);
}

static std::vector<std::string> getPaths(ParameterStackOp op) {
  std::vector<std::string> paths;
  for (mlir::Attribute path : op.getPaths())
    paths.push_back(mlir::cast<mlir::StringAttr>(path).str());
  return paths;
}

/// A weight that kernels read from a memory of their own is two leaves where torch's operators read it too.
void PlanBuilder::visitParameter(ParameterOp op) {
  std::string path = op.getPath().str();
  if (copies() && isReadByKernel(op.getResult()))
    addLeaf(op, {path}, /*lanes=*/0, defineByKernel(op.getResult()), /*onDevice=*/true);
  if (!copies() || isReadByTorch(op.getResult()))
    addLeaf(op, {path}, /*lanes=*/0, define(op.getResult()));
}

/// A stack that is only read packed is not needed in torch's own layout as well.
void PlanBuilder::visitStack(ParameterStackOp op) {
  if (copies() && isReadByKernel(op.getResult()))
    addLeaf(op, getPaths(op), /*lanes=*/0, defineByKernel(op.getResult()), /*onDevice=*/true);
  if (copies() && !isReadByTorch(op.getResult()))
    return;
  bool isRead = llvm::any_of(op->getUses(), [](mlir::OpOperand &use) {
    auto launch = mlir::dyn_cast<LaunchOp>(use.getOwner());
    return !launch || getPackedLanes(launch, use.getOperandNumber()) == 0;
  });
  if (isRead)
    addLeaf(op, getPaths(op), /*lanes=*/0, define(op.getResult()));
}

/// The slot of an input of a launch.
unsigned PlanBuilder::useInput(LaunchOp op, size_t i) {
  int64_t lanes = getPackedLanes(op, i);
  if (lanes == 0)
    return useByKernel(op.getInputs()[i]);
  auto stack = op.getInputs()[i].getDefiningOp<ParameterStackOp>();
  TORCH_CHECK(stack, "pfcn: kernel ", op.getKernel().str(), " wants something packed that is no stack of parameters");
  auto [found, isNew] = packedSlots.try_emplace({stack.getResult(), lanes}, program.tensorCount);
  if (isNew)
    addLeaf(stack, getPaths(stack), lanes, program.tensorCount++);
  return found->second;
}

template <typename Fresh> void PlanBuilder::visitFresh(Fresh op, bool isZero) {
  auto allocate = [&](unsigned slot, const Memory &in) {
    addStep(StepKind::Allocation, isZero ? "zeros" : "empty",
            [slot, in, isZero, spec = makeSpec(op.getType()), dynamic = useAll(op.getDynamicSizes())](Frame &frame) {
              if (frame.tensors[slot].defined()) // whoever runs the plan has given it
                return;
              llvm::SmallVector<int64_t, 6> sizes(spec.sizes.begin(), spec.sizes.end());
              const unsigned *next = dynamic.data();
              for (int64_t &size : sizes)
                if (size < 0)
                  size = frame.indices[*next++];
              frame.tensors[slot] = in.allocate({sizes.data(), sizes.size()}, spec.dtype);
              if (isZero)
                frame.tensors[slot].zero_();
            });
  };
  if (isZero)
    return allocate(define(op.getResult()), memory);
  // What it holds is not defined, so where there are two memories, each may have one.
  if (copies() && isReadByKernel(op.getResult()))
    allocate(defineByKernel(op.getResult()), Memory::ofDevice(cuda));
  if (!copies() || !isReadByKernel(op.getResult()) || isReadByTorch(op.getResult()))
    allocate(define(op.getResult()), memory);
}

/// One call for all instances, of which the plan takes note.
Evaluator PlanBuilder::makeGroupCall(mlir::Operation *op, llvm::StringRef group, llvm::StringRef callee) {
  auto opaque = mlir::dyn_cast<OpaqueOp>(op);
  BatchedCall call = opaque && opaque.getBatched() ? makeBatchedCall(opaque) : BatchedCall{makeEvaluator(op), ""};
  auto reason = op->getAttrOfType<mlir::StringAttr>(notDifferentiableAttrName);
  if (plan)
    plan->groupCalls.push_back({group.str(), callee.str(), reason ? reason.str() : "", call.loopReason});
  return std::move(call.evaluate);
}

/// A stack that a group reads, of one tensor per instance.
static bool isStackForKernels(mlir::Operation *op) {
  auto stack = mlir::dyn_cast<StackOp>(op);
  return stack && stack.getDim() == 0 && llvm::all_of(op->getUsers(), [](mlir::Operation *user) {
           return mlir::isa<LaunchOp, mlir::tensor::DimOp>(user);
         });
}

/// The results of the model that each of its inputs reaches, or null.
ReachedFrom PlanBuilder::findReach(mlir::ValueRange values) const {
  if (!reach)
    return nullptr;
  std::vector<unsigned> numbers;
  for (mlir::Value value : values) {
    auto argument = mlir::dyn_cast<mlir::BlockArgument>(value);
    if (!argument)
      return nullptr;
    numbers.push_back(argument.getArgNumber());
  }
  return reach->ofInputs(numbers);
}

void PlanBuilder::visitCompute(mlir::Operation *op) {
  if (op->getNumResults() == 1 && slots.contains(op->getResult(0))) // rows of a kernel's result, which has made them
    return;
  std::vector<unsigned> operands = useAll(op->getOperands());
  std::vector<unsigned> results;
  for (mlir::Value result : op->getResults())
    results.push_back(define(result));
  bool isView = mlir::isa<ReshapeOp, PermuteOp, SliceOp, SelectOp, UnsqueezeOp, SqueezeOp, ExpandOp>(op);
  bool isOperator = mlir::isa<OpaqueOp, ComposedOp>(op);
  StepKind kind = isOperator ? StepKind::Operator : isView ? StepKind::View : StepKind::Library;
  std::string name =
      isOperator ? op->getAttrOfType<mlir::StringAttr>("name").str() : op->getName().stripDialect().str();
  auto group = op->getAttrOfType<mlir::StringAttr>(groupAttrName);
  Evaluator evaluator = group ? makeGroupCall(op, group.getValue(), name) : makeEvaluator(op);
  bool isStack = isStackForKernels(op);
  ReachedFrom reached = isStack ? findReach(op->getOperands()) : nullptr;
  if (reached)
    plan->limitsReach = true;
  addStep(kind, std::move(name), [evaluate = std::move(evaluator), operands, results, isStack, reached](Frame &frame) {
    llvm::SmallVector<at::Tensor, 4> values;
    for (unsigned operand : operands)
      values.push_back(frame.tensors[operand]);
    if (isStack && frame.isFollowed) {
      frame.tensors[results.front()] = followStack(values);
      if (reached)
        limit(frame.tensors[results.front()], frame.used, reached);
      return;
    }
    TensorVector computed = evaluate(values);
    for (size_t i = 0; i < results.size(); ++i)
      frame.tensors[results[i]] = std::move(computed[i]);
  });
}

//===----------------------------------------------------------------------------===//
// Groups
//===----------------------------------------------------------------------------===//

namespace {

/// A destination of a group: where it is, and whether the group may write into it.
struct Destination {
  unsigned slot;
  bool inPlace;
  /// Nothing of what it holds is wanted.
  bool isEmpty;
  Memory memory;

  at::Tensor get(Frame &frame) const {
    at::Tensor &tensor = frame.tensors[slot];
    if (inPlace)
      return tensor;
    return isEmpty ? memory.allocate(tensor.sizes(), tensor.scalar_type()) : memory.clone(tensor);
  }
};

} // namespace

/// Nothing else may see what a group writes: two groups may share one `pfcn.empty` (common
/// subexpressions are merged), and a destination may be anything.
static Destination makeDestination(mlir::Value init, unsigned slot, Memory memory) {
  mlir::Operation *source = init.getDefiningOp();
  bool isEmpty = mlir::isa_and_nonnull<EmptyOp>(source);
  bool isOwn = isEmpty || mlir::isa_and_nonnull<ZerosOp, LaunchOp, KernelOp, InstancesOp, ScatterInstancesOp>(source);
  return {slot, isOwn && init.hasOneUse(), isEmpty, std::move(memory)};
}

void PlanBuilder::visitLaunch(LaunchOp op) {
  if (cuda)
    return addLaunch(op, CudaLaunch(op, module, cuda));
  auto function = module.lookupSymbol<mlir::func::FuncOp>(op.getKernel());
  TORCH_CHECK(function, "pfcn: there is no kernel ", op.getKernel().str());
  Kernel kernel = lookup ? lookup(op.getKernel()) : nullptr;
  TORCH_CHECK(kernel, "pfcn: kernel ", op.getKernel().str(), " has not been compiled");
  addLaunch(op, Launch(op, function.getFunctionType(), kernel));
}

/// What an op reads of the result of a kernel, where that is some of its rows.
static std::optional<RowsOfResult> getRows(mlir::OpOperand &use) {
  unsigned result = mlir::cast<mlir::OpResult>(use.get()).getResultNumber();
  auto select = mlir::dyn_cast<SelectOp>(use.getOwner());
  if (select && select.getDim() == 0)
    return RowsOfResult{result, static_cast<int64_t>(select.getIndex()), 0, /*isOne=*/true};
  auto slice = mlir::dyn_cast<SliceOp>(use.getOwner());
  if (slice && slice.getDim() == 0 && slice.getStep() == 1 && slice.getEnd() != kSliceToEnd)
    return RowsOfResult{result, static_cast<int64_t>(slice.getStart()), static_cast<int64_t>(slice.getEnd()), false};
  return std::nullopt;
}

template <typename AnyLaunch> void PlanBuilder::addLaunch(LaunchOp op, AnyLaunch launch) {
  std::vector<unsigned> inputs;
  for (size_t i = 0; i < op.getInputs().size(); ++i)
    inputs.push_back(useInput(op, i));
  std::vector<Destination> destinations;
  for (mlir::Value init : op.getInits())
    destinations.push_back(makeDestination(init, useByKernel(init), copies() ? Memory::ofDevice(cuda) : memory));
  std::vector<unsigned> results;
  for (mlir::Value result : op.getResults())
    results.push_back(defineByKernel(result));
  std::vector<RowsOfResult> rows;
  std::vector<unsigned> rowSlots;
  for (mlir::Value result : op.getResults()) {
    auto type = mlir::cast<mlir::RankedTensorType>(result.getType());
    if (copies() || type.getRank() == 0 || type.isDynamicDim(0))
      continue;
    for (mlir::OpOperand &use : result.getUses())
      if (std::optional<RowsOfResult> read = getRows(use)) {
        rows.push_back(*read);
        rowSlots.push_back(define(use.getOwner()->getResult(0)));
      }
  }
  std::shared_ptr<const Gradient> gradient;
  if (auto index = op->getAttrOfType<mlir::IntegerAttr>(gradientAttrName))
    gradient = gradients[index.getInt()];
  addStep(StepKind::Kernel, op.getKernel().str(),
          [launch = std::move(launch), lookup = lookup, inputs, destinations, results, rows, rowSlots,
           gradient](Frame &frame) {
            llvm::SmallVector<at::Tensor, 8> tensors;
            for (unsigned input : inputs)
              tensors.push_back(frame.tensors[input]);
            for (const Destination &destination : destinations)
              tensors.push_back(destination.get(frame));
            if (frame.isFollowed) {
              TORCH_CHECK(gradient, "pfcn: a kernel has no gradient");
              llvm::SmallVector<std::shared_ptr<const Stack>, 8> stacks;
              for (unsigned input : inputs)
                stacks.push_back(frame.stacks.lookup(input));
              FollowedResults followed = runFollowed(gradient, tensors, inputs.size(), stacks, rows,
                                                     [&](TensorRange plain) { launch.run(plain); });
              for (size_t i = 0; i < results.size(); ++i)
                frame.tensors[results[i]] = followed.whole[i];
              for (size_t i = 0; i < rowSlots.size(); ++i)
                frame.tensors[rowSlots[i]] = followed.rows[i];
              return;
            }
            launch.run(tensors);
            for (size_t i = 0; i < results.size(); ++i)
              frame.tensors[results[i]] = tensors[inputs.size() + i];
            for (size_t i = 0; i < rowSlots.size(); ++i)
              frame.tensors[rowSlots[i]] = rows[i].get(frame.tensors[results[rows[i].result]]);
          });
}

void PlanBuilder::visitGather(GatherInstancesOp op) {
  if (op.getSizes()) {
    std::vector<int64_t> starts;
    for (size_t i = 0; i < op.getSizes()->size(); ++i)
      starts.push_back(op.getAccess().getStart(static_cast<int64_t>(i)));
    PaddedParts parts(op.getAccess().getDim(), op.getAccess().getSize(), std::move(starts), op.getSizes()->vec());
    addStep(StepKind::Library, "gather_instances",
            [parts = std::move(parts), input = use(op.getInput()), result = define(op.getResult())](Frame &frame) {
              frame.tensors[result] = parts.gather(frame.tensors[input]);
            });
    return;
  }
  Access access = makeAccess(op.getAccess(), mlir::cast<mlir::RankedTensorType>(op.getType()).getDimSize(0));
  addStep(StepKind::Library, "gather_instances",
          [access, input = use(op.getInput()), result = define(op.getResult())](Frame &frame) {
            frame.tensors[result] = access.getAll(frame.tensors[input]);
          });
}

void PlanBuilder::visitScatter(ScatterInstancesOp op) {
  Access access = makeAccess(op.getAccess(), mlir::cast<mlir::RankedTensorType>(op.getInput().getType()).getDimSize(0));
  Destination destination = makeDestination(op.getInit(), use(op.getInit()), memory);
  addStep(StepKind::Library, "scatter_instances",
          [access, destination, isSum = op.getAccumulate(), input = use(op.getInput()),
           result = define(op.getResult())](Frame &frame) {
            at::Tensor whole = destination.get(frame);
            if (isSum)
              access.accumulate(whole, frame.tensors[input]);
            else
              access.store(whole, frame.tensors[input]);
            frame.tensors[result] = whole;
          });
}

namespace {

/// A group that runs on torch's functions: its body once for all instances (`pfcn.kernel`), or instance by
/// instance. Where there are both, autograd follows the former: of a stack it would make a gradient per instance.
struct LibraryGroup {
  std::optional<Program> batched, single;
  int64_t count;
  std::vector<Access> inputAccesses, destinationAccesses;

  void run(TensorRange inputs, TensorRange destinations, bool isFollowed) const {
    if (batched && (!single || isFollowed))
      return runBody(*batched, inputs, destinations, -1);
    for (int64_t i = 0; i < count; ++i)
      runBody(*single, inputs, destinations, i);
  }

private:
  /// Runs the body for one instance, or for all where that is -1.
  void runBody(const Program &body, TensorRange inputs, TensorRange destinations, int64_t instance) const {
    Frame frame(body);
    for (size_t i = 0; i < inputs.size(); ++i) {
      const Access &access = inputAccesses[i];
      frame.tensors[body.inputs[i]] = instance < 0 ? access.getAll(inputs[i]) : access.getInstance(inputs[i], instance);
    }
    body.run(frame);
    for (size_t i = 0; i < destinations.size(); ++i) {
      const at::Tensor &value = frame.tensors[body.outputs[i]];
      if (instance < 0)
        destinationAccesses[i].store(destinations[i], value);
      else
        destinationAccesses[i].getInstance(destinations[i], instance).copy_(value);
    }
  }
};

} // namespace

template <typename GroupOp> void PlanBuilder::visitGroup(GroupOp op) {
  auto group = std::make_shared<LibraryGroup>();
  group->count = op.getCount();
  for (mlir::Attribute access : op.getInputAccesses())
    group->inputAccesses.push_back(makeAccess(mlir::cast<AccessAttr>(access), group->count));
  for (mlir::Attribute access : op.getInitAccesses())
    group->destinationAccesses.push_back(makeAccess(mlir::cast<AccessAttr>(access), group->count));
  auto buildBody = [&](std::optional<Program> &body, mlir::Block &block) {
    PlanBuilder(body.emplace(), nullptr, module, lookup, cuda).build(block);
  };
  buildBody(std::is_same_v<GroupOp, KernelOp> ? group->batched : group->single, *op.getBodyBlock());
  if (auto instance = op->template getAttrOfType<mlir::FlatSymbolRefAttr>(instanceAttrName); instance && group->batched)
    buildBody(group->single, module.lookupSymbol<mlir::func::FuncOp>(instance.getValue()).getBody().front());
  std::vector<unsigned> inputs = useAll(op.getInputs());
  std::vector<Destination> destinations;
  for (mlir::Value init : op.getInits())
    destinations.push_back(makeDestination(init, use(init), memory));
  std::vector<unsigned> results;
  for (mlir::Value result : op.getResults())
    results.push_back(define(result));
  addStep(StepKind::Library, op.getName().str(), [group, inputs, destinations, results](Frame &frame) {
    llvm::SmallVector<at::Tensor, 8> sources, targets;
    for (unsigned input : inputs)
      sources.push_back(frame.tensors[input]);
    for (const Destination &destination : destinations)
      targets.push_back(destination.get(frame));
    group->run(sources, targets, frame.isFollowed);
    for (size_t i = 0; i < results.size(); ++i)
      frame.tensors[results[i]] = targets[i];
  });
}

//===----------------------------------------------------------------------------===//
// Running
//===----------------------------------------------------------------------------===//

Frame::Frame(const Program &program) : tensors(program.tensorCount), indices(program.indexCount) {
  for (const auto &[slot, tensor] : program.constants)
    tensors[slot] = tensor;
}

/// Kernels have a name in torch.profiler; where nobody listens it costs a few nanoseconds. Torch's functions have
/// names of their own.
static void runStep(const Step &step, Frame &frame) {
  if (step.kind != StepKind::Kernel)
    return step.run(frame);
  RECORD_FUNCTION(step.name, c10::ArrayRef<const c10::IValue>{});
  step.run(frame);
}

void Program::run(Frame &frame) const {
  for (const Step &step : steps) {
    runStep(step, frame);
    for (unsigned slot : step.dead)
      frame.tensors[slot].reset();
  }
}

/// The dimensions from the outermost to the innermost of a result that lies in memory without gaps;
/// none of one that does not.
static std::vector<int64_t> getOrder(mlir::Type type, llvm::ArrayRef<int64_t> strides) {
  llvm::ArrayRef<int64_t> sizes = mlir::cast<mlir::RankedTensorType>(type).getShape();
  if (sizes.size() != strides.size())
    return {};
  std::vector<int64_t> order(sizes.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return strides[a] > strides[b]; });
  int64_t expected = 1;
  for (int64_t dim : llvm::reverse(order)) {
    if (sizes[dim] == 1)
      continue;
    if (expected > 0 ? strides[dim] != expected : strides[dim] == 0)
      return {};
    // Behind a dimension of any size, strides cannot be told.
    expected = mlir::ShapedType::isDynamic(sizes[dim]) ? 0 : expected * sizes[dim];
  }
  return order;
}

std::shared_ptr<const Plan> Plan::create(mlir::ModuleOp module, KernelLookup lookup,
                                         llvm::ArrayRef<std::vector<int64_t>> outputStrides,
                                         std::shared_ptr<const CudaTarget> cuda,
                                         llvm::ArrayRef<std::shared_ptr<const Gradient>> gradients,
                                         const Reach *reach) {
  auto forward = module.lookupSymbol<mlir::func::FuncOp>("forward");
  TORCH_CHECK(forward && !forward.isExternal(), "pfcn: the module has no function 'forward'");
  TORCH_CHECK(forward.getBody().hasOneBlock(), "pfcn: 'forward' has control flow, which no plan has");
  mlir::Block &block = forward.getBody().front();
  auto plan = std::make_shared<Plan>();
  plan->cuda = cuda;
  for (mlir::Type type : forward.getFunctionType().getInputs())
    plan->inputs.push_back(makeSpec(type));
  PlanBuilder builder(plan->program, plan.get(), module, lookup, cuda, gradients, reach);
  builder.build(block);
  for (const Leaf &leaf : plan->leaves) {
    plan->leafReach.push_back(reach && leaf.isStack ? reach->ofParameters(leaf.paths) : nullptr);
    plan->limitsReach |= plan->leafReach.back() != nullptr;
  }
  if (auto writes = forward->getAttrOfType<mlir::ArrayAttr>(writesAttrName))
    for (auto paths : writes.getAsRange<mlir::ArrayAttr>()) {
      plan->writes.emplace_back();
      for (auto path : paths.getAsRange<mlir::StringAttr>())
        plan->writes.back().push_back(path.str());
    }
  mlir::OperandRange returned = block.getTerminator()->getOperands();
  for (auto [i, value] : llvm::enumerate(returned)) {
    mlir::Operation *source = value.getDefiningOp();
    bool fresh =
        mlir::isa_and_nonnull<LaunchOp, KernelOp, InstancesOp, ScatterInstancesOp>(source) && value.hasOneUse();
    plan->allFresh &= fresh;
    plan->outputs.push_back(
        {!source || mlir::isa<ParameterOp>(source),
         i < outputStrides.size() ? getOrder(value.getType(), outputStrides[i]) : std::vector<int64_t>(),
         builder.findMemory(value), makeSpec(value.getType())});
  }
  return plan;
}

std::string describe(c10::Device device) { return device.is_cpu() ? "the CPU" : device.str(); }

c10::Device Plan::getDevice() const { return cuda && !cuda->copies ? cuda->getTorchDevice() : c10::Device(c10::kCPU); }

void Plan::check(TensorRange given, TensorRange weights) const {
  TORCH_CHECK_VALUE(given.size() == inputs.size(), "pfcn: the model takes ", inputs.size(), " tensors, and got ",
                    given.size());
  for (size_t i = 0; i < inputs.size(); ++i)
    TORCH_CHECK_VALUE(inputs[i].matches(given[i]) && given[i].device() == getDevice(), "pfcn: input ", i, " is ",
                      inputs[i].str(), " on ", describe(getDevice()), ", and got ",
                      TensorSpec{given[i].sizes().vec(), given[i].scalar_type()}.str(), " on ", given[i].device());
  TORCH_CHECK_VALUE(weights.size() == leaves.size(), "pfcn: the plan has ", leaves.size(), " weights, and got ",
                    weights.size());
  for (size_t i = 0; i < leaves.size(); ++i)
    TORCH_CHECK_VALUE(leaves[i].packedLanes > 0 || leaves[i].spec.matches(weights[i]), "pfcn: weight '",
                      leaves[i].paths.front(), "' is ", leaves[i].spec.str(), ", and got ",
                      TensorSpec{weights[i].sizes().vec(), weights[i].scalar_type()}.str());
}

std::vector<at::Tensor> Plan::run(TensorRange given, TensorRange weights, TensorRange places) const {
  check(given, weights);
  return runUnchecked(given, weights, places);
}

/// Waits for pfcn's own stream on a device, which may read tensors of the run.
static llvm::Error finish(const CudaTarget *cuda) {
  return cuda && cuda->copies ? cuda->device->synchronize() : llvm::Error::success();
}

void Plan::fill(Frame &frame, TensorRange given, TensorRange weights) const {
  for (size_t i = 0; i < given.size(); ++i)
    frame.tensors[program.inputs[i]] = given[i];
  for (size_t i = 0; i < weights.size(); ++i)
    frame.tensors[leafSlots[i]] = weights[i];
}

namespace {
/// The casts of autocast are ops of the plan where it was recorded so.
struct WithoutAutocast : c10::impl::ExcludeDispatchKeyGuard {
  WithoutAutocast() : ExcludeDispatchKeyGuard(c10::DispatchKey::AutocastCPU) {}
};
} // namespace

std::vector<at::Tensor> Plan::runFollowed(TensorRange given, TensorRange weights,
                                          llvm::ArrayRef<std::shared_ptr<const Stack>> stacks) const {
  check(given, weights);
  WithoutAutocast plain;
  Frame frame(program);
  frame.isFollowed = true;
  if (limitsReach)
    frame.used = makeUsedResults();
  fill(frame, given, weights);
  for (size_t i = 0; i < stacks.size(); ++i)
    if (stacks[i])
      frame.stacks[leafSlots[i]] = stacks[i];
  for (size_t i = 0; i < leaves.size(); ++i)
    if (leafReach[i])
      limit(weights[i], frame.used, leafReach[i]);
  program.run(frame);
  std::vector<at::Tensor> results = collect(frame, given, weights);
  if (!limitsReach)
    return results;
  std::vector<at::Tensor> computed = results;
  for (size_t i = 0; i < outputs.size(); ++i)
    if (outputs[i].isGiven)
      computed[i] = at::Tensor();
  computed = followResults(computed, frame.used);
  for (size_t i = 0; i < outputs.size(); ++i)
    if (computed[i].defined())
      results[i] = computed[i];
  return results;
}

std::vector<at::Tensor> Plan::runUnchecked(TensorRange given, TensorRange weights, TensorRange places) const {
  at::NoGradGuard noGrad;
  at::AutoDispatchBelowADInplaceOrView below;
  WithoutAutocast plain;
  Frame frame(program);
  fill(frame, given, weights);
  for (size_t i = 0; i < places.size(); ++i)
    if (places[i].defined() && outputs[i].memorySlot && outputs[i].spec.matches(places[i]) && places[i].is_contiguous())
      frame.tensors[*outputs[i].memorySlot] = places[i];
  try {
    program.run(frame);
  } catch (...) {
    llvm::consumeError(finish(cuda.get()));
    throw;
  }
  throwIfError(finish(cuda.get()));
  return collect(frame, given, weights);
}

/// Sizes in the order of eager's memory, contiguous there.
static std::vector<int64_t> orderedStrides(at::IntArrayRef sizes, llvm::ArrayRef<int64_t> order) {
  std::vector<int64_t> strides(sizes.size());
  int64_t stride = 1;
  for (int64_t dim : llvm::reverse(order)) {
    strides[dim] = stride;
    stride *= std::max<int64_t>(sizes[dim], 1);
  }
  return strides;
}

static at::Tensor inOrder(const at::Tensor &tensor, llvm::ArrayRef<int64_t> order) {
  std::vector<int64_t> strides = orderedStrides(tensor.sizes(), order);
  if (tensor.strides() == at::IntArrayRef(strides))
    return tensor;
  return at::empty_strided(tensor.sizes(), strides, tensor.options()).copy_(tensor);
}

std::vector<at::Tensor> Plan::collect(Frame &frame, TensorRange given, TensorRange weights) const {
  // What outlives the run, and earlier results, must not be seen through a result.
  llvm::SmallPtrSet<const c10::StorageImpl *, 8> taken;
  auto take = [&](const at::Tensor &tensor) { return taken.insert(tensor.storage().unsafeGetStorageImpl()).second; };
  if (!allFresh) {
    for (const at::Tensor &tensor : given)
      take(tensor);
    for (const at::Tensor &tensor : weights)
      take(tensor);
    for (const auto &[slot, tensor] : program.constants)
      take(tensor);
  }
  std::vector<at::Tensor> results;
  results.reserve(outputs.size());
  for (size_t i = 0; i < outputs.size(); ++i) {
    at::Tensor result = frame.tensors[program.outputs[i]];
    if (!outputs[i].isGiven && !outputs[i].order.empty())
      result = inOrder(result, outputs[i].order);
    if (!allFresh && !outputs[i].isGiven && !take(result))
      result = result.clone();
    results.push_back(std::move(result));
  }
  return results;
}

} // namespace pfcn::runtime
