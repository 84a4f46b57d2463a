//===- Ptx.cpp - kernels as PTX --------------------------------------------------------===//
//
// The order matters: gpu to NVVM before anything else lowers math, or `math.tanh` aborts upstream's conversion.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/JIT/Ptx.h"

#include "pfcn/JIT/ApproximateMath.h"
#include "pfcn/JIT/ExpandMath.h"
#include "pfcn/JIT/GenerateCode.h"

#include "mlir/Conversion/ArithToLLVM/ArithToLLVM.h"
#include "mlir/Conversion/ControlFlowToLLVM/ControlFlowToLLVM.h"
#include "mlir/Conversion/FuncToLLVM/ConvertFuncToLLVM.h"
#include "mlir/Conversion/MathToLLVM/MathToLLVM.h"
#include "mlir/Conversion/MemRefToLLVM/MemRefToLLVM.h"
#include "mlir/Conversion/NVVMToLLVM/NVVMToLLVM.h"
#include "mlir/Conversion/Passes.h"
#include "mlir/Conversion/VectorToLLVM/ConvertVectorToLLVM.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Transforms/Passes.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/GPU/GPUToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/NVVM/NVVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "mlir/Transforms/Passes.h"
#include "mlir/Transforms/WalkPatternRewriteDriver.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"

using namespace mlir;

namespace {
/// Upstream turns `math.sqrt` into `sqrt.approx`; torch rounds correctly.
struct ExactSqrt : OpRewritePattern<math::SqrtOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(math::SqrtOp op, PatternRewriter &rewriter) const override {
    bool isDouble = op.getType().isF64();
    if (!op.getType().isF32() && !isDouble)
      return failure();
    rewriter.replaceOpWithNewOp<LLVM::CallIntrinsicOp>(
        op, op.getType(), rewriter.getStringAttr(isDouble ? "llvm.nvvm.sqrt.rn.d" : "llvm.nvvm.sqrt.rn.f"),
        op.getOperand());
    return success();
  }
};

/// An instruction of the chip in place of upstream's call of libdevice. By name: upstream's conversion takes
/// the ops of these intrinsics for calls too.
template <typename MathOp> struct UseIntrinsic : OpRewritePattern<MathOp> {
  UseIntrinsic(MLIRContext *context, StringRef name) : OpRewritePattern<MathOp>(context), name(name) {}

  LogicalResult matchAndRewrite(MathOp op, PatternRewriter &rewriter) const override {
    rewriter.replaceOpWithNewOp<LLVM::CallIntrinsicOp>(op, op.getType(), rewriter.getStringAttr(name),
                                                       op->getOperands());
    return success();
  }

  StringRef name;
};

/// One instruction, where `arith-expand` would compare and select.
template <typename ArithOp> struct UseMaximum : UseIntrinsic<ArithOp> {
  using UseIntrinsic<ArithOp>::UseIntrinsic;

  LogicalResult matchAndRewrite(ArithOp op, PatternRewriter &rewriter) const override {
    if (getElementTypeOrSelf(op.getType()).isF64())
      return failure(); // which has none that keeps NaN
    return UseIntrinsic<ArithOp>::matchAndRewrite(op, rewriter);
  }
};

/// NaN stays NaN.
struct ExpandClamp : OpRewritePattern<math::ClampFOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(math::ClampFOp op, PatternRewriter &rewriter) const override {
    Value low = arith::MinimumFOp::create(rewriter, op.getLoc(), op.getValue(), op.getMax());
    rewriter.replaceOpWithNewOp<arith::MaximumFOp>(op, low, op.getMin());
    return success();
  }
};

/// The instructions and functions of a GPU are of scalars.
struct ScalarizeMath : RewritePattern {
  explicit ScalarizeMath(MLIRContext *context) : RewritePattern(MatchAnyOpTypeTag(), /*benefit=*/1, context) {}

  LogicalResult matchAndRewrite(Operation *op, PatternRewriter &rewriter) const override {
    if (!isa<math::MathDialect>(op->getDialect()) || op->getNumResults() != 1 ||
        !isa<VectorType>(op->getResult(0).getType()))
      return failure();
    auto type = cast<VectorType>(op->getResult(0).getType());
    if (type.getRank() != 1 || type.isScalable())
      return failure();
    SmallVector<Value> elements;
    for (int64_t i = 0; i < type.getDimSize(0); ++i) {
      auto scalars = llvm::map_to_vector(op->getOperands(), [&](Value operand) -> Value {
        return isa<VectorType>(operand.getType())
                   ? vector::ExtractOp::create(rewriter, op->getLoc(), operand, ArrayRef<int64_t>{i})
                   : operand;
      });
      OperationState state(op->getLoc(), op->getName(), scalars, type.getElementType(), op->getAttrs());
      state.propertiesAttr = op->getPropertiesAsAttribute();
      elements.push_back(rewriter.create(state)->getResult(0));
    }
    rewriter.replaceOpWithNewOp<vector::FromElementsOp>(op, type, elements);
    return success();
  }
};

/// A pair of f32 rounded to 16 bits at once, with one instruction of sm_80 and later.
struct RoundPairs : OpRewritePattern<arith::TruncFOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(arith::TruncFOp op, PatternRewriter &rewriter) const override {
    auto type = dyn_cast<VectorType>(op.getType());
    if (!type || type.getShape() != ArrayRef<int64_t>{2} || !getElementTypeOrSelf(op.getIn()).isF32() ||
        !(type.getElementType().isF16() || type.getElementType().isBF16()))
      return failure();
    Value low = vector::ExtractOp::create(rewriter, op.getLoc(), op.getIn(), ArrayRef<int64_t>{0});
    Value high = vector::ExtractOp::create(rewriter, op.getLoc(), op.getIn(), ArrayRef<int64_t>{1});
    StringRef name = type.getElementType().isF16() ? "llvm.nvvm.ff2f16x2.rn" : "llvm.nvvm.ff2bf16x2.rn";
    rewriter.replaceOpWithNewOp<LLVM::CallIntrinsicOp>(op, type, rewriter.getStringAttr(name), ValueRange{high, low});
    return success();
  }
};

struct UseInstructions : PassWrapper<UseInstructions, OperationPass<gpu::GPUModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(UseInstructions)

  explicit UseInstructions(bool roundsPairs) : roundsPairs(roundsPairs) {}

  void getDependentDialects(DialectRegistry &registry) const override {
    registry.insert<LLVM::LLVMDialect, vector::VectorDialect>();
  }
  void runOnOperation() override {
    MLIRContext *context = &getContext();
    RewritePatternSet scalar(context);
    scalar.add<ScalarizeMath>(context);
    walkAndApplyPatterns(getOperation(), std::move(scalar));
    RewritePatternSet patterns(context);
    if (roundsPairs)
      patterns.add<RoundPairs>(context);
    patterns.add<ExactSqrt, ExpandClamp>(context);
    patterns.add<UseMaximum<arith::MaximumFOp>>(context, "llvm.maximum");
    patterns.add<UseMaximum<arith::MinimumFOp>>(context, "llvm.minimum");
    patterns.add<UseIntrinsic<math::FmaOp>>(context, "llvm.fma");
    patterns.add<UseIntrinsic<math::AbsFOp>>(context, "llvm.fabs");
    patterns.add<UseIntrinsic<math::FloorOp>>(context, "llvm.floor");
    patterns.add<UseIntrinsic<math::CeilOp>>(context, "llvm.ceil");
    patterns.add<UseIntrinsic<math::TruncOp>>(context, "llvm.trunc");
    patterns.add<UseIntrinsic<math::RoundEvenOp>>(context, "llvm.rint");
    patterns.add<UseIntrinsic<math::CopySignOp>>(context, "llvm.copysign");
    walkAndApplyPatterns(getOperation(), std::move(patterns));
  }

  bool roundsPairs;
};
} // namespace

static void buildPipeline(OpPassManager &pm, llvm::StringRef chip) {
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  pm.addPass(createLoopInvariantCodeMotionPass());
  OpPassManager &gpu = pm.nest<gpu::GPUModuleOp>();
  gpu.addPass(::pfcn::createExpandMathPass());
  gpu.addPass(::pfcn::createApproximateMathPass());
  gpu.addPass(std::make_unique<UseInstructions>(/*roundsPairs=*/chip != "sm_75"));
  gpu.addPass(createSCFToControlFlowPass());
  gpu.addPass(memref::createExpandStridedMetadataPass());
  gpu.addPass(createLowerAffinePass());
  gpu.addPass(createConvertVectorToLLVMPass());
  gpu.addPass(arith::createArithExpandOpsPass());
  ConvertGpuOpsToNVVMOpsOptions options;
  options.useBarePtrCallConv = true;
  gpu.addPass(createConvertGpuOpsToNVVMOps(options));
  gpu.addPass(createReconcileUnrealizedCastsPass());
}

/// The oldest PTX version that knows the chip: a driver must be as new as the version it is given. LLVM ends the
/// process for a version that does not; null for a chip of which that is not known.
static const char *getPtxFeature(llvm::StringRef chip) {
  return llvm::StringSwitch<const char *>(chip)
      .Cases({"sm_75", "sm_80", "sm_86"}, "+ptx71")
      .Case("sm_87", "+ptx74")
      .Cases({"sm_89", "sm_90"}, "+ptx78")
      .Case("sm_100", "+ptx86")
      .Case("sm_120", "+ptx87")
      .Cases({"sm_103", "sm_121"}, "+ptx88")
      .Case("sm_110", "+ptx90")
      .Default(nullptr);
}

static llvm::Expected<std::unique_ptr<llvm::TargetMachine>> createTargetMachine(const std::string &chip) {
  LLVMInitializeNVPTXTargetInfo();
  LLVMInitializeNVPTXTarget();
  LLVMInitializeNVPTXTargetMC();
  LLVMInitializeNVPTXAsmPrinter();
  llvm::Triple triple("nvptx64-nvidia-cuda");
  std::string error;
  const llvm::Target *target = llvm::TargetRegistry::lookupTarget(triple, error);
  if (!target)
    return llvm::createStringError("this LLVM has no NVPTX back end: " + error);
  const char *ptx = getPtxFeature(chip);
  if (!ptx)
    return llvm::createStringError("unknown chip '" + chip +
                                   "': name one of sm_75, 80, 86, 87, 89, 90, 100, 103, 110, 120 and 121, as sm_90");
  std::unique_ptr<llvm::TargetMachine> machine(target->createTargetMachine(
      triple, chip, ptx, {}, std::nullopt, std::nullopt, llvm::CodeGenOptLevel::Aggressive));
  if (!machine)
    return llvm::createStringError("LLVM cannot compile for " + chip);
  return machine;
}

llvm::Expected<std::string> pfcn::compileKernelsToPtx(ModuleOp module, const std::string &chip) {
  llvm::Expected<std::unique_ptr<llvm::TargetMachine>> machine = createTargetMachine(chip);
  if (!machine)
    return machine.takeError();
  auto found = module.getOps<gpu::GPUModuleOp>();
  if (found.empty())
    return llvm::createStringError("the module has no GPU kernels: run --pfcn-lower-kernels-to-gpu first");
  OwningOpRef<ModuleOp> kernels = ModuleOp::create(module.getLoc());
  OpBuilder::atBlockEnd(kernels->getBody()).clone(**found.begin());

  MLIRContext *context = module.getContext();
  DialectRegistry registry;
  registerBuiltinDialectTranslation(registry);
  registerLLVMDialectTranslation(registry);
  registerGPUDialectTranslation(registry);
  registerNVVMDialectTranslation(registry);
  // `convert-gpu-to-nvvm` asks each dialect for its own conversion.
  arith::registerConvertArithToLLVMInterface(registry);
  cf::registerConvertControlFlowToLLVMInterface(registry);
  registerConvertFuncToLLVMInterface(registry);
  registerConvertMathToLLVMInterface(registry);
  registerConvertMemRefToLLVMInterface(registry);
  registerConvertNVVMToLLVMInterface(registry);
  vector::registerConvertVectorToLLVMInterface(registry);
  context->appendDialectRegistry(registry);

  std::string messages;
  ScopedDiagnosticHandler handler(context, [&](Diagnostic &diagnostic) {
    messages += "\n  " + diagnostic.str();
    return success();
  });
  PassManager pm(context);
  buildPipeline(pm, chip);
  if (failed(pm.run(*kernels)))
    return llvm::createStringError("kernels could not be lowered to NVVM:" + messages);
  ::pfcn::OwnedModule owned;
  owned.module = translateModuleToLLVMIR(*kernels->getOps<gpu::GPUModuleOp>().begin(), *owned.context, "pfcn");
  if (!owned.module)
    return llvm::createStringError("kernels could not be translated to LLVM IR:" + messages);
  if (llvm::Error error = ::pfcn::optimise(owned, **machine))
    return error;
  auto text = ::pfcn::generateCode(std::move(owned), **machine, llvm::CodeGenFileType::AssemblyFile);
  if (!text)
    return text.takeError();
  std::string ptx(text->begin(), text->end());
  // A function that nothing defines would only be missed when the driver loads the image.
  if (size_t at = ptx.find(".extern .func"); at != std::string::npos)
    return llvm::createStringError("kernels call a function that nothing defines: " +
                                   ptx.substr(at, ptx.find(';', at) - at));
  return ptx;
}
