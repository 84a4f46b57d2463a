//===- LowerKernels.cpp - kernels to functions, and launches in their place --------===//

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

  void runOnOperation() override {
    lowerEachKernel(getOperation(), "LowerKernels",
                    [&](KernelOp kernel, KernelOp draft, std::string &reason) { return lower(kernel, draft, reason); });
    getOperation().walk([&](KernelOp kernel) { chooseCalls(kernel); });
  }

  /// A kernel that stays runs by one call for all instances of each op, unless that is estimated to be slower.
  void chooseCalls(KernelOp kernel) {
    std::optional<LibraryCost> library = estimateLibrary(kernel, vectorBytes, libraryRate > 0 ? libraryRate : 1.0);
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

  /// Whether torch's functions, one after the other, are estimated to take less time than the kernel.
  bool isLibraryFaster(KernelOp kernel, const Schedule &schedule, std::string &reason) {
    if (libraryRate <= 0)
      return false;
    std::optional<LibraryCost> library = estimateLibrary(kernel, vectorBytes, libraryRate);
    if (!library || !library->hasProduct || schedule.cost <= library->getLeast())
      return false;
    reason = llvm::formatv("{0} estimated faster: {1:F0} thousand vector operations, and {2:F0} in one kernel",
                           library->prefersSingle() ? "torch's functions are" : "library GEMM is",
                           library->getLeast() / 1000, schedule.cost / 1000);
    return true;
  }

  /// The function of a kernel, or null.
  std::unique_ptr<CpuKernel> emit(KernelOp kernel, const ParallelDims &dims, const Schedule &schedule,
                                  std::string &reason) {
    OpBuilder builder = OpBuilder::atBlockEnd(getOperation().getBody());
    // The register file has 32 vectors with AVX-512, 16 before.
    EmitOptions options{maxScratch, /*accumulators=*/vectorBytes >= 64 ? 16 : 8, packWeights};
    std::unique_ptr<CpuKernel> emitter;
    if (schedule.opLanes)
      emitter = std::make_unique<OpLanesKernel>(kernel, dims, schedule, options, builder);
    else
      emitter = std::make_unique<CpuKernel>(kernel, dims, schedule, options, builder);
    if (succeeded(emitter->emit(reason)))
      return emitter;
    emitter->erase();
    return nullptr;
  }

  LogicalResult lower(KernelOp original, KernelOp kernel, std::string &reason) {
    FailureOr<ParallelDims> dims = ParallelDims::compute(*kernel.getBodyBlock(), reason);
    if (failed(dims))
      return failure();
    ScheduleOptions options{vectorBytes, lanes, maxScratch, packWeights, opLanes};
    FailureOr<Schedule> schedule = Schedule::choose(kernel, *dims, options, reason);
    if (failed(schedule) || isLibraryFaster(original, *schedule, reason))
      return failure();
    std::unique_ptr<CpuKernel> emitter = emit(kernel, *dims, *schedule, reason);
    if (!emitter && schedule->opLanes) {
      options.opLanes = "never";
      schedule = Schedule::choose(kernel, *dims, options, reason);
      if (failed(schedule) || isLibraryFaster(original, *schedule, reason))
        return failure();
      emitter = emit(kernel, *dims, *schedule, reason);
    }
    if (!emitter)
      return failure();
    func::FuncOp function = emitter->getFunction();
    SymbolTable(getOperation()).insert(function); // renames it where the name is taken

    int64_t tiles = schedule->getTiles(kernel.getCount());
    LaunchOp launch = replaceWithLaunch(kernel, function.getSymName(), tiles, emitter->getEqualSizes());
    if (llvm::any_of(emitter->getPackedLanes(), [](int64_t lanes) { return lanes != 0; }))
      launch->setAttr("pfcn.packed", Builder(&getContext()).getDenseI64ArrayAttr(emitter->getPackedLanes()));
    return success();
  }
};
} // namespace
