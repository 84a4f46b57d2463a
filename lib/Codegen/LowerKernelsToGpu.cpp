//===- LowerKernelsToGpu.cpp - kernels to GPU functions, and launches in their place ---===//

#include "pfcn/Codegen/GpuKernel.h"
#include "pfcn/Codegen/Launches.h"
#include "pfcn/Codegen/LowerEachKernel.h"
#include "pfcn/Codegen/MmaKernel.h"
#include "pfcn/Codegen/MmaSchedule.h"
#include "pfcn/Codegen/Passes.h"
#include "pfcn/JIT/ExpandMath.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Remarks.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/Support/FormatVariadic.h"

namespace mlir::pfcn {
#define GEN_PASS_DEF_LOWERKERNELSTOGPU
#include "pfcn/Codegen/Passes.h.inc"
} // namespace mlir::pfcn

using namespace mlir;
using namespace mlir::pfcn;

/// Blocks in y: enough for every walker to have a point of the first outer dimension, and a bounded number
/// where its size is not known; blocks walk on from there.
static int64_t getGridY(const Schedule &schedule, const ParallelDims &dims, int64_t warps) {
  constexpr int64_t most = 64;
  if (schedule.outerClasses.empty())
    return 1;
  int64_t size = dims.getSize(schedule.outerClasses.front());
  if (ShapedType::isDynamic(size))
    return most;
  return std::clamp<int64_t>(llvm::divideCeil(size, schedule.getChunk(schedule.sharesLanes ? 1 : warps)), 1, most);
}

/// Warps of a block: as many as have something to do.
static int64_t getMostWarps(const Schedule &schedule) {
  if (schedule.sharesLanes)
    return schedule.lanes == ThreadBuilder::warpSize ? 8 : 4;
  return schedule.outerClasses.empty() ? 1 : 4;
}

/// Whether a function calls one that only libdevice has.
static bool callsLibrary(gpu::GPUFuncOp function, std::string &reason) {
  return function
      .walk([&](Operation *op) {
        if (!::pfcn::hasNoFormula(op))
          return WalkResult::advance();
        reason = ("op '" + op->getName().getStringRef() + "' has no lowering for a GPU").str();
        return WalkResult::interrupt();
      })
      .wasInterrupted();
}

namespace {
struct LowerKernelsToGpu : mlir::pfcn::impl::LowerKernelsToGpuBase<LowerKernelsToGpu> {
  using LowerKernelsToGpuBase::LowerKernelsToGpuBase;

  void getDependentDialects(DialectRegistry &registry) const override {
    LowerKernelsToGpuBase::getDependentDialects(registry);
    registerFusionModels(registry);
  }

  void runOnOperation() override {
    if (!getOperation().walk([](KernelOp) { return WalkResult::interrupt(); }).wasInterrupted())
      return;
    gpu::GPUModuleOp module = getOrCreateModule();
    lowerEachKernel(getOperation(), "LowerKernelsToGpu",
                    [&](KernelOp, KernelOp draft, std::string &reason) { return lower(draft, module, reason); });
  }

  /// The module of all kernels, which an earlier run may have made.
  gpu::GPUModuleOp getOrCreateModule() {
    auto found = getOperation().getOps<gpu::GPUModuleOp>();
    if (!found.empty())
      return *found.begin();
    OpBuilder builder = OpBuilder::atBlockEnd(getOperation().getBody());
    getOperation()->setAttr(gpu::GPUDialect::getContainerModuleAttrName(), builder.getUnitAttr());
    return gpu::GPUModuleOp::create(builder, getOperation().getLoc(), "kernels");
  }

  LogicalResult lower(KernelOp kernel, gpu::GPUModuleOp module, std::string &reason) {
    FailureOr<ParallelDims> dims = ParallelDims::compute(*kernel.getBodyBlock(), reason);
    if (failed(dims))
      return failure();
    if (succeeded(lowerToTensorCores(kernel, module, *dims)))
      return success();
    for (const Schedule &schedule : Schedule::chooseForGpu(kernel, *dims, reason))
      for (int64_t warps = getMostWarps(schedule); warps >= 1; warps /= 2) {
        GpuKernel emitter(kernel, *dims, schedule, getEmitOptions(), warps, OpBuilder::atBlockEnd(module.getBody()));
        if (succeeded(emit(kernel, module, *dims, schedule, warps, emitter, reason)))
          return success();
      }
    return failure();
  }

  EmitOptions getEmitOptions() { return {maxShared, /*accumulators=*/16, /*packWeights=*/false}; }

  /// The kernel on tensor cores, where its chip has some for it, and a remark that says whether and why.
  LogicalResult lowerToTensorCores(KernelOp kernel, gpu::GPUModuleOp module, const ParallelDims &dims) {
    TensorCores cores = TensorCores::of(chip, allowTf32);
    if (!hasProducts(*kernel.getBodyBlock(), cores))
      return failure();
    Location loc = kernel.getLoc();
    auto options = remark::RemarkOpts::name("TensorCores").category("pfcn.lowering");
    std::string name = kernel.getName().str(), reason;
    auto decline = [&] {
      remark::missed(loc, options) << remark::reason("each thread multiplies by itself: {0}", reason)
                                   << remark::metric("kernel", name);
      return failure();
    };
    FailureOr<MmaSchedule> choice = MmaSchedule::choose(kernel, dims, cores, reason);
    if (failed(choice))
      return decline();
    MmaKernel emitter(kernel, dims, *choice, getEmitOptions(), cores, OpBuilder::atBlockEnd(module.getBody()));
    FailureOr<LaunchOp> launch = emit(kernel, module, dims, choice->schedule, choice->warps, emitter, reason);
    if (failed(launch))
      return decline();
    std::string instruction = cores.getInstruction(choice->element);
    (*launch)->setAttr(tensorCoresAttrName, StringAttr::get(module.getContext(), instruction));
    std::string cycles =
        llvm::formatv("{0:F0} cycles are estimated, and {1:F0} without", choice->cost, choice->threadCost);
    remark::passed(loc, options) << remark::metric("kernel", name) << remark::metric("instruction", instruction)
                                 << remark::metric("rows", choice->schedule.lanes)
                                 << remark::metric("warps", choice->warps)
                                 << remark::metric("registers", choice->registers) << remark::reason("{0}", cycles);
    return success();
  }

  FailureOr<LaunchOp> emit(KernelOp kernel, gpu::GPUModuleOp module, const ParallelDims &dims, const Schedule &schedule,
                           int64_t warps, GpuFrame &emitter, std::string &reason) {
    bool emitted = succeeded(emitter.emit(reason));
    gpu::GPUFuncOp function = emitter.getFunction();
    if (!emitted || callsLibrary(function, reason)) {
      function.erase();
      return failure();
    }
    SymbolTable(module).insert(function); // renames it where the name is taken
    int64_t tiles = schedule.getTiles(kernel.getCount());
    OpBuilder builder(module.getContext());
    LaunchOp launch = replaceWithLaunch(kernel, function.getName(), tiles, emitter.getEqualSizes());
    launch->setAttr("pfcn.grid_y", builder.getI64IntegerAttr(getGridY(schedule, dims, warps)));
    launch->setAttr("pfcn.block", builder.getDenseI64ArrayAttr({ThreadBuilder::warpSize, warps, 1}));
    return launch;
  }
};
} // namespace
