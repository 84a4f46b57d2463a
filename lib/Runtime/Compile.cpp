//===- Compile.cpp - from an imported model to a plan ------------------------------===//

#include "pfcn/Runtime/Compile.h"
#include "pfcn/Runtime/Calibrate.h"

#include "pfcn/Codegen/Launches.h"
#include "pfcn/Cuda/Images.h"
#include "pfcn/Dialect/Pfcn.h"
#include "pfcn/JIT/JIT.h"
#include "pfcn/Pipelines/Pipelines.h"
#include "pfcn/Runtime/Autograd.h"
#include "pfcn/Runtime/CudaLaunch.h"
#include "pfcn/Runtime/Reproducer.h"
#include "pfcn/Transforms/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/raw_ostream.h"

#include <c10/util/Exception.h>

#include <chrono>

using namespace mlir::pfcn;

namespace pfcn::runtime {

namespace {

/// Collects what MLIR would print to stderr.
class Messages {
public:
  explicit Messages(mlir::MLIRContext *context)
      : handler(context, [this](mlir::Diagnostic &diagnostic) {
          if (diagnostic.getSeverity() != mlir::DiagnosticSeverity::Error)
            return;
          llvm::raw_string_ostream stream(text);
          if (!text.empty())
            stream << "; ";
          if (!mlir::isa<mlir::UnknownLoc>(diagnostic.getLocation()))
            stream << diagnostic.getLocation() << ": ";
          stream << diagnostic;
        }) {}

  std::string text;

private:
  mlir::ScopedDiagnosticHandler handler;
};

/// One compilation, phase by phase.
class Compiler {
public:
  Compiler(const Model &model, const CompileOptions &options)
      : options(options), original(*model.module), module(mlir::cast<mlir::ModuleOp>(model.module.get()->clone())),
        messages(module->getContext()) {}

  std::shared_ptr<Compilation> run() {
    if (options.cudaDevice)
      cuda = std::make_shared<CudaTarget>(CudaTarget{valueOrThrow(cuda::getDevice(*options.cudaDevice)),
                                                     *options.cudaDevice, options.cudaCopies, /*image=*/""});
    if (options.fuse)
      phase("detect", [&] { detect(); });
    result->fusedText = print();
    if (options.useKernels)
      phase("lower", [&] { lower(); });
    result->loweredText = print();
    if (hasLaunches())
      phase("kernels", [&] { compileKernels(); });
    noteGroups();
    phase("plan", [&] { makePlan(); });
    return result;
  }

private:
  template <typename Body> void phase(const char *name, Body body) {
    auto begin = std::chrono::steady_clock::now();
    current = name;
    try {
      TORCH_CHECK(!isFailureInjected(name) || runsPasses(name), "pfcn: a failure of phase ", name, ", as asked");
      body();
    } catch (const CudaFailure &) {
      throw; // of the device, not of the compiler
    } catch (const CompileFailure &) {
      throw;
    } catch (const c10::Error &error) {
      fail(error.what_without_backtrace());
    } catch (const std::exception &error) {
      fail(error.what());
    }
    result->seconds.emplace_back(name, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }

  static bool runsPasses(llvm::StringRef phase) { return phase == "detect" || phase == "lower"; }

  /// Runs passes of the current phase. All pipelines since the beginning are kept, to run them again if one fails.
  void runPasses(const PipelineBuilder &build, const char *what) {
    auto buildAll = [build, isBroken = isFailureInjected(current)](mlir::OpPassManager &manager) {
      build(manager);
      if (isBroken)
        manager.addPass(createTestFailurePass());
    };
    pipelines.push_back(buildAll);
    mlir::PassManager manager(module->getContext());
    buildAll(manager);
    TORCH_CHECK(llvm::succeeded(manager.run(*module)), "pfcn: ", what, " failed: ", messages.text);
  }

  [[noreturn]] void fail(const std::string &message);

  void detect();
  void differentiate();
  void lower();
  void compileKernels();
  void makePlan();
  void numberGroups();
  void noteGroups();
  bool hasLaunches();
  std::string print();

  const CompileOptions &options;
  mlir::ModuleOp original; // stays as it is
  mlir::OwningOpRef<mlir::ModuleOp> module;
  std::string current; // phase
  std::vector<PipelineBuilder> pipelines;
  std::vector<std::shared_ptr<const Gradient>> gradients;
  Messages messages;
  std::shared_ptr<CompiledKernels> kernels;
  std::shared_ptr<CudaTarget> cuda;
  std::shared_ptr<Compilation> result = std::make_shared<Compilation>();
};

/// With the smallest module that fails in the same way, as far as passes do.
void Compiler::fail(const std::string &message) {
  std::string text, flags = "--run-reproducer";
  if (runsPasses(current)) {
    text = reproducePassFailure(original, pipelines);
    if (text.empty()) {
      text = printWithoutValues(original);
      flags = cuda ? "--pfcn-pipeline-nvvm" : "--pfcn-pipeline-cpu";
    }
  } else {
    text = printWithoutValues(*module);
    flags = current != "kernels" ? "" : cuda ? "--emit=ptx" : "--emit=obj -o /dev/null";
  }
  throw CompileFailure(current, message, text, flags);
}

void Compiler::detect() {
  // The passes may run again, after this function.
  auto report = std::make_shared<FusionReport>();
  bool keepInstances = options.useKernels && !cuda;
  runPasses(
      [=, differentiate = options.differentiate](mlir::OpPassManager &manager) {
        buildDetectPipeline(manager, report.get(), keepInstances, differentiate);
      },
      "detection");
  FusionReport found = *report;
  if (options.differentiate)
    differentiate();
  runPasses([](mlir::OpPassManager &manager) { manager.addNestedPass<mlir::func::FuncOp>(createBatchInstancesPass()); },
            "batching");
  for (FusionReport::Group &group : found.groups) {
    GroupInfo &info = result->groups.emplace_back();
    info.name = std::move(group.name);
    info.instances = group.instances;
    info.ops = std::move(group.ops);
    info.operands = std::move(group.operands);
    info.reason = std::move(group.reason);
    info.padding = std::move(group.padding);
    info.where = std::move(group.where);
    info.flops = group.flops;
    info.bytesBefore = group.bytesBefore;
    info.bytesAfter = group.bytesAfter;
  }
  for (FusionReport::Miss &miss : found.missed)
    result->missed.push_back(
        {std::move(miss.reason), std::move(miss.suggestion), std::move(miss.where), std::move(miss.other)});
  numberGroups();
}

static llvm::StringRef getGroupName(mlir::Operation *op) {
  if (auto kernel = mlir::dyn_cast<KernelOp>(op))
    return kernel.getName();
  auto instances = mlir::dyn_cast<InstancesOp>(op);
  return instances ? instances.getName() : llvm::StringRef();
}

/// The name of the group of which this is a part, cut at foreign operators; empty where it is a whole group.
static llvm::StringRef getWhole(llvm::StringRef name) {
  auto [whole, number] = name.rsplit("_part");
  bool isPart = !number.empty() && llvm::all_of(number, [](char c) { return llvm::isDigit(c) || c == '_'; });
  return isPart ? whole : llvm::StringRef();
}

/// Gives each group its number, which what it becomes will keep. Groups and their ops stand in the same order.
void Compiler::numberGroups() {
  std::vector<bool> isTaken(result->groups.size());
  module->walk([&](mlir::Operation *op) {
    llvm::StringRef name = getGroupName(op), whole = getWhole(name);
    for (auto [i, group] : llvm::enumerate(result->groups)) {
      if (whole.empty() ? isTaken[i] || name != group.name : whole != group.name)
        continue;
      isTaken[i] = true;
      op->setAttr(groupNumberAttrName, mlir::Builder(op).getI64IntegerAttr(i));
      return;
    }
  });
}

/// A function of one group alone, which takes its inputs and destinations as its kernel will: what that does not
/// read in place is stacked then.
static std::string isolateGroup(InstancesOp op) {
  mlir::OwningOpRef<mlir::ModuleOp> module = mlir::ModuleOp::create(op.getLoc());
  mlir::OpBuilder builder(module->getBodyRegion());
  llvm::SmallVector<mlir::Type> types;
  llvm::SmallVector<mlir::Attribute> accesses[2];
  auto addAll = [&](mlir::ValueRange wholes, mlir::ArrayAttr given, llvm::SmallVector<mlir::Attribute> &seen) {
    for (auto [whole, attribute] : llvm::zip_equal(wholes, given)) {
      auto access = mlir::cast<AccessAttr>(attribute);
      auto type = mlir::cast<mlir::RankedTensorType>(whole.getType());
      bool inPlace = access.isShared() || access.isAffine();
      types.push_back(inPlace ? type : access.getBatchedType(type, op.getCount()));
      seen.push_back(inPlace ? access : AccessAttr::getSelect(op.getContext(), 0));
    }
  };
  addAll(op.getInputs(), op.getInputAccesses(), accesses[0]);
  size_t inputCount = types.size();
  addAll(op.getInits(), op.getInitAccesses(), accesses[1]);
  llvm::ArrayRef<mlir::Type> results = llvm::ArrayRef<mlir::Type>(types).drop_front(inputCount);
  auto function = mlir::func::FuncOp::create(builder, op.getLoc(), "forward", builder.getFunctionType(types, results));
  builder.setInsertionPointToStart(function.addEntryBlock());
  auto arguments = function.getArguments();
  auto copy = InstancesOp::create(builder, op.getLoc(), results, op.getName(), op.getCount(),
                                  mlir::ValueRange(arguments.take_front(inputCount)),
                                  mlir::ValueRange(arguments.drop_front(inputCount)), builder.getArrayAttr(accesses[0]),
                                  builder.getArrayAttr(accesses[1]));
  mlir::IRMapping mapping;
  op.getBody().cloneInto(&copy.getBody(), mapping);
  mlir::func::ReturnOp::create(builder, op.getLoc(), copy.getResults());
  std::string text;
  llvm::raw_string_ostream stream(text);
  module->print(stream);
  return text;
}

/// Each group gets its gradient. One that has none runs on torch's functions, which autograd follows.
void Compiler::differentiate() {
  llvm::SmallVector<InstancesOp> groups;
  module->walk([&](InstancesOp op) { groups.push_back(op); });
  for (InstancesOp op : groups) {
    std::string text = isolateGroup(op);
    auto alone = mlir::parseSourceString<mlir::ModuleOp>(text, module->getContext());
    mlir::PassManager manager(module->getContext());
    manager.addPass(createDifferentiatePass());
    TORCH_CHECK(alone && llvm::succeeded(manager.run(*alone)), "pfcn: differentiation failed: ", messages.text);
    mlir::StringAttr reason;
    alone->walk([&](InstancesOp group) {
      if (auto given = group->getAttrOfType<mlir::StringAttr>(notDifferentiableAttrName))
        reason = given;
    });
    if (reason) {
      op->setAttr(declinedAttrName,
                  mlir::StringAttr::get(module->getContext(), "trains on torch's functions: " + reason.getValue()));
      continue;
    }
    op->setAttr(gradientAttrName, mlir::IntegerAttr::get(mlir::IntegerType::get(module->getContext(), 64),
                                                         static_cast<int64_t>(gradients.size())));
    gradients.push_back(std::make_shared<Gradient>(std::move(text), options));
  }
}

void Compiler::lower() {
  if (cuda) {
    auto build = [chip = cuda->device->getChip(), allowTf32 = options.allowTf32,
                  library = !options.cudaCopies](mlir::OpPassManager &manager) {
      NvvmPipelineOptions pipeline;
      pipeline.chip = chip;
      pipeline.allowTf32 = allowTf32;
      pipeline.library = library;
      buildNvvmPipeline(manager, pipeline);
    };
    return runPasses(build, "lowering");
  }
  auto build = [machine = loadMachine(), packWeights = options.freeze](mlir::OpPassManager &manager) {
    CpuPipelineOptions pipeline;
    pipeline.vectorBytes = machine.vectorBytes;
    pipeline.machine = machine.str();
    pipeline.packWeights = packWeights;
    buildCpuPipeline(manager, pipeline);
    manager.addPass(mlir::createSymbolDCEPass()); // functions of single instances that were not chosen
  };
  runPasses(build, "lowering");
}

bool Compiler::hasLaunches() {
  return module->walk([](LaunchOp) { return mlir::WalkResult::interrupt(); }).wasInterrupted();
}

void Compiler::compileKernels() {
  if (cuda) {
    cuda::ImageKind kind = valueOrThrow(cuda::getImageKind());
    cuda->image = valueOrThrow(cuda::compileImage(*module, cuda->device->getChip(), kind));
    return;
  }
  llvm::Expected<std::shared_ptr<CompiledKernels>> compiled = CompiledKernels::compile(*module);
  TORCH_CHECK(compiled, "pfcn: code generation failed: ", llvm::toString(compiled.takeError()));
  kernels = *compiled;
}

/// What a pass that left a group as it was says of it.
static std::string getDeclineReason(mlir::Operation *op) {
  auto reason = op->getAttrOfType<mlir::StringAttr>(declinedAttrName);
  return reason ? reason.str() : "";
}

/// Finds out what became of each group.
void Compiler::noteGroups() {
  module->walk([&](mlir::Operation *op) {
    auto number = op->getAttrOfType<mlir::IntegerAttr>(groupNumberAttrName);
    if (!number)
      return;
    GroupInfo &group = result->groups[number.getInt()];
    if (auto choice = op->getAttrOfType<mlir::StringAttr>(choiceAttrName))
      group.choice = choice.str();
    if (auto instruction = op->getAttrOfType<mlir::StringAttr>(tensorCoresAttrName))
      group.tensorCores = instruction.str();
    if (auto launch = mlir::dyn_cast<LaunchOp>(op))
      group.kernels.push_back(launch.getKernel().str());
    else
      group.declined = options.useKernels ? getDeclineReason(op) : "runs on torch's functions, as asked";
  });
}

void Compiler::makePlan() {
  KernelLookup lookup;
  if (kernels)
    lookup = [kernels = kernels](llvm::StringRef name) { return kernels->lookup(name); };
  std::optional<Reach> reach;
  if (options.differentiate)
    reach.emplace(original.lookupSymbol<mlir::func::FuncOp>("forward"));
  result->plan = Plan::create(*module, lookup, options.outputStrides, cuda, gradients, reach ? &*reach : nullptr);
  for (const GroupCall &call : result->plan->getGroupCalls())
    for (GroupInfo &group : result->groups)
      if (group.name == call.group) {
        group.calls.push_back(call.callee);
        auto add = [&](const std::string &what) { group.declined += (group.declined.empty() ? "" : "; ") + what; };
        if (!call.reason.empty())
          add(call.callee + " has torch's gradient: " + call.reason);
        if (!call.loopReason.empty())
          add(call.callee + " runs once per instance: " + call.loopReason);
      }
}

std::string Compiler::print() {
  std::string text;
  llvm::raw_string_ostream stream(text);
  module->print(stream, mlir::OpPrintingFlags().elideLargeElementsAttrs(16));
  return text;
}

} // namespace

std::shared_ptr<Compilation> compile(const Model &model, const CompileOptions &options) {
  return Compiler(model, options).run();
}

std::shared_ptr<Model> parseModel(const std::string &text, std::map<std::string, at::Tensor> tensors) {
  auto model = std::make_shared<Model>();
  Messages messages(model->context.get());
  model->module = mlir::parseSourceString<mlir::ModuleOp>(text, model->context.get());
  TORCH_CHECK_VALUE(model->module, "pfcn: the text is no module of the pfcn dialect: ", messages.text);
  model->tensors = std::move(tensors);
  return model;
}

} // namespace pfcn::runtime
