//===- Ptx.cpp - kernels as PTX --------------------------------------------------------===//
//
// The order matters: gpu to NVVM before anything else lowers math, or `math.tanh` aborts upstream's conversion.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/JIT/Ptx.h"

#include "pfcn/JIT/ApproximateMath.h"
#include "pfcn/JIT/ExpandMath.h"

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
#include "mlir/ExecutionEngine/OptUtils.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/GPU/GPUToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/NVVM/NVVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "mlir/Transforms/Passes.h"
#include "mlir/Transforms/WalkPatternRewriteDriver.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
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

/// NaN stays NaN.
struct ExpandClamp : OpRewritePattern<math::ClampFOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(math::ClampFOp op, PatternRewriter &rewriter) const override {
    Value low = arith::MinimumFOp::create(rewriter, op.getLoc(), op.getValue(), op.getMax());
    rewriter.replaceOpWithNewOp<arith::MaximumFOp>(op, low, op.getMin());
    return success();
  }
};

struct UseInstructions : PassWrapper<UseInstructions, OperationPass<gpu::GPUModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(UseInstructions)

  void getDependentDialects(DialectRegistry &registry) const override { registry.insert<LLVM::LLVMDialect>(); }
  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    MLIRContext *context = &getContext();
    patterns.add<ExactSqrt, ExpandClamp>(context);
    patterns.add<UseIntrinsic<math::FmaOp>>(context, "llvm.fma");
    patterns.add<UseIntrinsic<math::AbsFOp>>(context, "llvm.fabs");
    patterns.add<UseIntrinsic<math::FloorOp>>(context, "llvm.floor");
    patterns.add<UseIntrinsic<math::CeilOp>>(context, "llvm.ceil");
    patterns.add<UseIntrinsic<math::TruncOp>>(context, "llvm.trunc");
    patterns.add<UseIntrinsic<math::RoundEvenOp>>(context, "llvm.rint");
    patterns.add<UseIntrinsic<math::CopySignOp>>(context, "llvm.copysign");
    walkAndApplyPatterns(getOperation(), std::move(patterns));
  }
};
} // namespace

static void buildPipeline(OpPassManager &pm) {
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  pm.addPass(createLoopInvariantCodeMotionPass());
  OpPassManager &gpu = pm.nest<gpu::GPUModuleOp>();
  gpu.addPass(::pfcn::createExpandMathPass());
  gpu.addPass(::pfcn::createApproximateMathPass());
  gpu.addPass(std::make_unique<UseInstructions>());
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
  buildPipeline(pm);
  if (failed(pm.run(*kernels)))
    return llvm::createStringError("kernels could not be lowered to NVVM:" + messages);
  llvm::LLVMContext llvmContext;
  std::unique_ptr<llvm::Module> llvmModule =
      translateModuleToLLVMIR(*kernels->getOps<gpu::GPUModuleOp>().begin(), llvmContext, "pfcn");
  if (!llvmModule)
    return llvm::createStringError("kernels could not be translated to LLVM IR:" + messages);
  llvmModule->setDataLayout((*machine)->createDataLayout());
  llvmModule->setTargetTriple((*machine)->getTargetTriple());
  if (llvm::Error error = makeOptimizingTransformer(3, 0, machine->get())(llvmModule.get()))
    return error;

  llvm::SmallVector<char, 0> text;
  llvm::raw_svector_ostream stream(text);
  llvm::legacy::PassManager passes;
  if ((*machine)->addPassesToEmitFile(passes, stream, nullptr, llvm::CodeGenFileType::AssemblyFile))
    return llvm::createStringError("the target cannot emit PTX");
  passes.run(*llvmModule);
  std::string ptx(text.begin(), text.end());
  // A function that nothing defines would only be missed when the driver loads the image.
  if (size_t at = ptx.find(".extern .func"); at != std::string::npos)
    return llvm::createStringError("kernels call a function that nothing defines: " +
                                   ptx.substr(at, ptx.find(';', at) - at));
  return ptx;
}
