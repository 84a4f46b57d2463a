//===- LowerKernelsToGpu.cpp - kernels to GPU functions, and launches in their place ---===//

#include "pfcn/Codegen/GpuKernel.h"
#include "pfcn/Codegen/LowerEachKernel.h"
#include "pfcn/Codegen/Passes.h"
#include "pfcn/JIT/ExpandMath.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/SymbolTable.h"

namespace mlir::pfcn {
#define GEN_PASS_DEF_LOWERKERNELSTOGPU
#include "pfcn/Codegen/Passes.h.inc"
} // namespace mlir::pfcn

using namespace mlir;
using namespace mlir::pfcn;

/// Blocks in y: enough for every warp to have a point of the first outer dimension, and a bounded number
/// where its size is not known; blocks walk on from there.
static int64_t getGridY(const Schedule &schedule, const ParallelDims &dims, int64_t warps) {
  constexpr int64_t most = 64;
  if (schedule.outerClasses.empty())
    return 1;
  int64_t size = dims.getSize(schedule.outerClasses.front());
  if (ShapedType::isDynamic(size))
    return most;
  int64_t step = schedule.outerClasses.front() == schedule.laneClass ? schedule.lanes : 1;
  return std::clamp<int64_t>(llvm::divideCeil(size, step * warps), 1, most);
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
    OpBuilder builder = OpBuilder::atBlockEnd(getOperation().getBody());
    auto module = gpu::GPUModuleOp::create(builder, getOperation().getLoc(), "kernels");
    getOperation()->setAttr(gpu::GPUDialect::getContainerModuleAttrName(), builder.getUnitAttr());
    lowerEachKernel(getOperation(), "LowerKernelsToGpu",
                    [&](KernelOp, KernelOp draft, std::string &reason) { return lower(draft, module, reason); });
  }

  LogicalResult lower(KernelOp kernel, gpu::GPUModuleOp module, std::string &reason) {
    FailureOr<ParallelDims> dims = ParallelDims::compute(*kernel.getBodyBlock(), reason);
    if (failed(dims))
      return failure();
    for (const Schedule &schedule : Schedule::chooseForGpu(kernel, *dims, reason))
      for (int64_t warps = schedule.outerClasses.empty() ? 1 : 4; warps >= 1; warps /= 2)
        if (succeeded(emit(kernel, module, *dims, schedule, warps, reason)))
          return success();
    return failure();
  }

  LogicalResult emit(KernelOp kernel, gpu::GPUModuleOp module, const ParallelDims &dims, const Schedule &schedule,
                     int64_t warps, std::string &reason) {
    OpBuilder builder = OpBuilder::atBlockEnd(module.getBody());
    EmitOptions options{maxShared, /*accumulators=*/16, /*packWeights=*/false};
    GpuKernel emitter(kernel, dims, schedule, options, warps, builder);
    bool emitted = succeeded(emitter.emit(reason));
    gpu::GPUFuncOp function = emitter.getFunction();
    if (!emitted || callsLibrary(function, reason)) {
      function.erase();
      return failure();
    }
    SymbolTable(module).insert(function); // renames it where the name is taken
    int64_t tiles = schedule.getTiles(kernel.getCount());
    LaunchOp launch = replaceWithLaunch(kernel, function.getName(), tiles, emitter.getEqualSizes());
    launch->setAttr("pfcn.grid_y", builder.getI64IntegerAttr(getGridY(schedule, dims, warps)));
    launch->setAttr("pfcn.block", builder.getDenseI64ArrayAttr({ThreadBuilder::warpSize, warps, 1}));
    return success();
  }
};
} // namespace
