//===- LowerKernels.cpp - kernels to functions, and launches in their place --------===//

#include "pfcn/Codegen/BlockRows.h"
#include "pfcn/Codegen/LibraryCost.h"
#include "pfcn/Codegen/LowerEachKernel.h"
#include "pfcn/Codegen/OpLanesKernel.h"
#include "pfcn/Codegen/Passes.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/Support/FormatVariadic.h"

namespace mlir::pfcn {
#define GEN_PASS_DEF_LOWERKERNELS
#include "pfcn/Codegen/Passes.h.inc"
} // namespace mlir::pfcn

using namespace mlir;
using namespace mlir::pfcn;

namespace {
struct LowerKernels : mlir::pfcn::impl::LowerKernelsBase<LowerKernels> {
  using LowerKernelsBase::LowerKernelsBase;

  void getDependentDialects(DialectRegistry &registry) const override {
    LowerKernelsBase::getDependentDialects(registry);
    registerFusionModels(registry);
  }

  LogicalResult initialize(MLIRContext *context) override {
    model.vectorBytes = vectorBytes;
    if (llvm::Error error = model.set(machine))
      return emitError(UnknownLoc::get(context)) << "machine: " << llvm::toString(std::move(error));
    return success();
  }

  void runOnOperation() override {
    lowerEachKernel(getOperation(), "LowerKernels",
                    [&](KernelOp kernel, KernelOp draft, std::string &reason) { return lower(kernel, draft, reason); });
    getOperation().walk([&](KernelOp kernel) { chooseCalls(kernel); });
  }

  /// A kernel that stays runs by one call for all instances of each op, unless that is estimated to be slower.
  void chooseCalls(KernelOp kernel) {
    std::optional<LibraryCost> library = estimateLibrary(kernel, model);
    if (!library || !library->prefersSingle()) {
      kernel->removeAttr(instanceAttrName);
      return;
    }
    std::string reason;
    if (auto declined = kernel->getAttrOfType<StringAttr>(declinedAttrName))
      reason = (declined.getValue() + "; ").str();
    kernel->setAttr(declinedAttrName,
                    StringAttr::get(&getContext(), reason + "torch's functions run instance by instance"));
  }

  /// Whether torch's functions, one after the other, are estimated to take less time than the kernel. `estimates`:
  /// both.
  bool isLibraryFaster(KernelOp kernel, const Schedule &schedule, std::string &estimates) {
    estimates = llvm::formatv("{0}, estimated at {1:F1} us", schedule.describe(), model.toMicroseconds(schedule.cost));
    std::optional<LibraryCost> library = estimateLibrary(kernel, model);
    if (!library)
      return false;
    double least = model.toMicroseconds(library->getLeast());
    const char *calls = library->prefersSingle() ? "torch's functions, instance by instance," : "torch's functions";
    if (model.libraryRate <= 0 || !library->hasProduct || schedule.cost <= library->getLeast()) {
      estimates += llvm::formatv("; {0} at {1:F1} us", calls, least);
      return false;
    }
    estimates = llvm::formatv("{0} estimated faster: {1:F1} us, and {2:F1} us as one kernel",
                              library->prefersSingle() ? "torch's functions are" : "library GEMM is", least,
                              model.toMicroseconds(schedule.cost));
    return true;
  }

  int64_t getMaxScratch(KernelOp kernel) const {
    return kernel.getBodyBlock()->getOps<scf::ForOp>().empty() ? maxScratch : std::max(maxScratch, maxLoopScratch);
  }

  /// The function of a kernel, or null.
  std::unique_ptr<CpuKernel> emit(KernelOp kernel, const ParallelDims &dims, const Schedule &schedule,
                                  std::string &reason) {
    OpBuilder builder = OpBuilder::atBlockEnd(getOperation().getBody());
    // The register file has 32 vectors with AVX-512, 16 before.
    EmitOptions options{getMaxScratch(kernel), /*accumulators=*/vectorBytes >= 64 ? 16 : 8, packWeights};
    std::unique_ptr<CpuKernel> emitter;
    if (schedule.opLanes)
      emitter = std::make_unique<OpLanesKernel>(kernel, dims, schedule, options, builder);
    else
      emitter = std::make_unique<CpuKernel>(kernel, dims, schedule, options, builder);
    if (succeeded(emitter->emit(reason))) {
      emitter->moveScratchOffStack();
      return emitter;
    }
    emitter->erase();
    return nullptr;
  }

  LogicalResult lower(KernelOp original, KernelOp kernel, std::string &reason) {
    FailureOr<ParallelDims> dims = ParallelDims::compute(*kernel.getBodyBlock(), reason);
    if (failed(dims))
      return failure();
    ScheduleOptions options{model, lanes, getMaxScratch(kernel), packWeights, opLanes};
    FailureOr<Schedule> schedule = Schedule::choose(kernel, *dims, options, reason);
    std::optional<RowBlocks> blocks = chooseRowBlocks(kernel, *dims, options);
    if (blocks && failed(schedule))
      schedule = blocks->schedule;
    else if (blocks && (opLanes == "blocks" || blocks->schedule.cost < schedule->cost))
      *schedule = blocks->schedule;
    else
      blocks = std::nullopt;
    std::string estimates;
    auto declines = [&] {
      if (failed(schedule))
        return true;
      bool isFaster = isLibraryFaster(original, *schedule, estimates);
      if (isFaster)
        reason = estimates;
      return isFaster;
    };
    auto emitChosen = [&]() -> std::unique_ptr<CpuKernel> {
      schedule->cut(blocks ? blocks->dims : *dims, kernel.getCount());
      return blocks ? emit(*blocks->kernel, blocks->dims, *schedule, reason) : emit(kernel, *dims, *schedule, reason);
    };
    if (declines())
      return failure();
    std::unique_ptr<CpuKernel> emitter = emitChosen();
    if (!emitter && schedule->opLanes) {
      blocks = std::nullopt;
      options.opLanes = "never";
      schedule = Schedule::choose(kernel, *dims, options, reason);
      if (declines())
        return failure();
      emitter = emitChosen();
    }
    if (!emitter)
      return failure();
    func::FuncOp function = emitter->getFunction();
    SymbolTable(getOperation()).insert(function); // renames it where the name is taken

    int64_t tiles = schedule->getTiles(kernel.getCount()) * schedule->parts;
    LaunchOp launch = replaceWithLaunch(kernel, function.getSymName(), tiles, emitter->getEqualSizes());
    launch->setAttr("pfcn.estimate", Builder(&getContext()).getF64FloatAttr(model.toMicroseconds(schedule->cost)));
    launch->setAttr(choiceAttrName, StringAttr::get(&getContext(), estimates));
    if (llvm::any_of(emitter->getPackedLanes(), [](int64_t lanes) { return lanes != 0; }))
      launch->setAttr("pfcn.packed", Builder(&getContext()).getDenseI64ArrayAttr(emitter->getPackedLanes()));
    return success();
  }

  CpuMachine model;
};
} // namespace
