//===- LowerToLLVM.cpp - kernel functions to LLVM IR --------------------------------===//
//
// Upstream's conversions in upstream's order. Transcendental functions of f32 vectors become
// polynomials, since a call per lane would cost more than all the rest.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/JIT/ApproximateMath.h"
#include "pfcn/JIT/ExpandBFloat.h"
#include "pfcn/JIT/JIT.h"

#include "mlir/Conversion/Passes.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Transforms/Passes.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Matchers.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "mlir/Transforms/DialectConversion.h"
#include "mlir/Transforms/Passes.h"
#include "mlir/Transforms/WalkPatternRewriteDriver.h"

using namespace mlir;

namespace {
/// `max` and `min` with a constant as processors have them, whose instruction gives the second operand where one is a
/// NaN: what upstream expands them to takes three, since either may be one.
template <typename Op, arith::CmpFPredicate predicate> struct ExpandClamp : OpRewritePattern<Op> {
  using OpRewritePattern<Op>::OpRewritePattern;
  LogicalResult matchAndRewrite(Op op, PatternRewriter &rewriter) const override {
    Value bound = op.getRhs(), value = op.getLhs();
    FloatAttr scalar;
    DenseFPElementsAttr elements;
    if (matchPattern(bound, m_Constant(&elements)) && elements.isSplat())
      scalar = elements.getSplatValue<FloatAttr>();
    else if (!matchPattern(bound, m_Constant(&scalar)))
      return failure();
    if (scalar.getValue().isNaN())
      return failure();
    Value isBeyond = arith::CmpFOp::create(rewriter, op.getLoc(), predicate, bound, value);
    rewriter.replaceOpWithNewOp<arith::SelectOp>(op, isBeyond, bound, value);
    return success();
  }
};

struct ExpandClamps : PassWrapper<ExpandClamps, OperationPass<>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(ExpandClamps)

  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    patterns.add<ExpandClamp<arith::MaximumFOp, arith::CmpFPredicate::OGT>,
                 ExpandClamp<arith::MinimumFOp, arith::CmpFPredicate::OLT>>(&getContext());
    walkAndApplyPatterns(getOperation(), std::move(patterns));
  }
};

/// Calls libm for what has no intrinsic. Upstream's pass would call it, a lane at a time, for
/// floor, sqrt and fma too.
struct CallLibm : PassWrapper<CallLibm, OperationPass<ModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(CallLibm)

  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    populateMathToLibmConversionPatterns(patterns);
    ConversionTarget target(getContext());
    target.addIllegalOp<math::ErfOp, math::ErfcOp, math::ExpM1Op, math::Log1pOp, math::TanhOp, math::AsinhOp,
                        math::AcoshOp, math::AtanhOp>();
    target.markUnknownOpDynamicallyLegal([](Operation *) { return true; });
    if (failed(applyPartialConversion(getOperation(), target, std::move(patterns))))
      signalPassFailure();
  }
};
} // namespace

static void buildPipeline(OpPassManager &pm) {
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  pm.addPass(createLoopInvariantCodeMotionPass());
  // Before functions become polynomials, which are of f32 only.
  pm.addPass(::pfcn::createExpandBFloatPass());
  pm.addPass(::pfcn::createApproximateMathPass());
  pm.addPass(createSCFToControlFlowPass());
  // Before vectors are lowered, for it takes them apart; all other functions are intrinsics, and those
  // of them that the target lacks become calls in its code generator.
  pm.addPass(std::make_unique<CallLibm>());
  pm.addPass(createConvertVectorToLLVMPass());
  pm.addPass(std::make_unique<ExpandClamps>());
  pm.addNestedPass<func::FuncOp>(arith::createArithExpandOpsPass());
  pm.addPass(createConvertMathToLLVMPass());
  pm.addPass(createFinalizeMemRefToLLVMConversionPass());
  pm.addPass(createConvertFuncToLLVMPass());
  pm.addPass(createArithToLLVMConversionPass());
  pm.addPass(createConvertIndexToLLVMPass());
  pm.addPass(createConvertControlFlowToLLVMPass());
  pm.addPass(createReconcileUnrealizedCastsPass());
  pm.addPass(createCSEPass());
}

llvm::Expected<OwningOpRef<ModuleOp>> pfcn::lowerKernelsToLLVM(ModuleOp module) {
  MLIRContext *context = module.getContext();
  OwningOpRef<ModuleOp> kernels = ModuleOp::create(module.getLoc());
  OpBuilder builder = OpBuilder::atBlockEnd(kernels->getBody());
  for (func::FuncOp function : module.getOps<func::FuncOp>())
    if (function->hasAttr(LLVM::LLVMDialect::getEmitCWrapperAttrName()))
      builder.clone(*function);
  for (memref::GlobalOp constant : module.getOps<memref::GlobalOp>())
    builder.clone(*constant);

  std::string messages;
  ScopedDiagnosticHandler handler(context, [&](Diagnostic &diagnostic) {
    messages += "\n  " + diagnostic.str();
    return success();
  });
  PassManager pm(context);
  buildPipeline(pm);
  if (failed(pm.run(*kernels)))
    return llvm::createStringError("kernels could not be lowered to LLVM:" + messages);
  return kernels;
}

llvm::Expected<pfcn::OwnedModule> pfcn::translateKernels(ModuleOp module, const Target &target) {
  llvm::Expected<OwningOpRef<ModuleOp>> kernels = lowerKernelsToLLVM(module);
  if (!kernels)
    return kernels.takeError();
  DialectRegistry registry;
  registerBuiltinDialectTranslation(registry);
  registerLLVMDialectTranslation(registry);
  module.getContext()->appendDialectRegistry(registry);
  ::pfcn::OwnedModule owned;
  owned.module = translateModuleToLLVMIR(**kernels, *owned.context, "pfcn");
  if (!owned.module)
    return llvm::createStringError("kernels could not be translated to LLVM IR");
  llvm::Expected<std::unique_ptr<llvm::TargetMachine>> machine = target.createTargetMachine();
  if (!machine)
    return machine.takeError();
  if (llvm::Error error = ::pfcn::optimise(owned, **machine))
    return error;
  return owned;
}
