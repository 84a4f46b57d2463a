//===- JIT.cpp - kernels as machine code ---------------------------------------------===//

#include "pfcn/JIT/JIT.h"

#include "pfcn/JIT/DiskCache.h"
#include "pfcn/JIT/PerfMap.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/Support/SmallVectorMemoryBuffer.h"

using namespace pfcn;

static constexpr llvm::StringRef packedPrefix = "pfcn_packed_";

/// One signature for all kernels: `void(void **arguments)`, each argument loaded through its pointer.
static void addPackedEntries(llvm::Module &module) {
  llvm::IRBuilder<> builder(module.getContext());
  auto *pointer = builder.getPtrTy();
  llvm::SmallVector<llvm::Function *> kernels;
  constexpr llvm::StringRef wrapper = "_mlir_ciface_";
  for (llvm::Function &function : module)
    if (!function.isDeclaration() && function.getName().starts_with(wrapper))
      kernels.push_back(&function);
  for (llvm::Function *kernel : kernels) {
    auto *type = llvm::FunctionType::get(builder.getVoidTy(), {pointer}, /*isVarArg=*/false);
    llvm::StringRef name = kernel->getName().drop_front(wrapper.size());
    auto *packed = llvm::Function::Create(type, llvm::GlobalValue::ExternalLinkage, packedPrefix + name, module);
    builder.SetInsertPoint(llvm::BasicBlock::Create(module.getContext(), "", packed));
    llvm::SmallVector<llvm::Value *> arguments;
    for (llvm::Argument &argument : kernel->args()) {
      llvm::Value *slot = builder.CreateConstGEP1_64(pointer, packed->getArg(0), argument.getArgNo());
      arguments.push_back(builder.CreateLoad(argument.getType(), builder.CreateLoad(pointer, slot)));
    }
    builder.CreateCall(kernel, arguments);
    builder.CreateRetVoid();
  }
}

llvm::Expected<std::unique_ptr<llvm::MemoryBuffer>> pfcn::compileKernelsToObject(mlir::ModuleOp module,
                                                                                 const Target &target) {
  auto owned = translateKernels(module, target);
  if (!owned)
    return owned.takeError();
  addPackedEntries(*owned->module);
  auto machine = target.createTargetMachine();
  if (!machine)
    return machine.takeError();
  auto object = generateCode(std::move(*owned), **machine, llvm::CodeGenFileType::ObjectFile);
  if (!object)
    return object.takeError();
  return std::make_unique<llvm::SmallVectorMemoryBuffer>(std::move(*object), "pfcn", /*RequiresNullTerminator=*/false);
}

static bool isKernel(mlir::func::FuncOp function) {
  return function->hasAttr(mlir::LLVM::LLVMDialect::getEmitCWrapperAttrName());
}

/// The object file, from the cache where these kernels have been compiled for this processor before.
static llvm::Expected<std::unique_ptr<llvm::MemoryBuffer>> getObject(mlir::ModuleOp module, const Target &target) {
  auto machine = target.createTargetMachine();
  if (!machine)
    return machine.takeError();
  llvm::SmallVector<mlir::Operation *> functions;
  for (mlir::func::FuncOp function : module.getOps<mlir::func::FuncOp>())
    if (isKernel(function))
      functions.push_back(function);
  std::string key = makeCacheKey("object", functions,
                                 {(*machine)->getTargetTriple().str(), (*machine)->getTargetCPU().str(),
                                  (*machine)->getTargetFeatureString().str()});
  auto object = DiskCache::fromEnvironment().get(key, [&]() -> llvm::Expected<std::string> {
    auto compiled = compileKernelsToObject(module, target);
    if (!compiled)
      return compiled.takeError();
    return (*compiled)->getBuffer().str();
  });
  if (!object)
    return object.takeError();
  return llvm::MemoryBuffer::getMemBufferCopy(*object, "pfcn");
}

CompiledKernels::CompiledKernels() = default;
CompiledKernels::~CompiledKernels() = default;

llvm::Expected<std::shared_ptr<CompiledKernels>> CompiledKernels::compile(mlir::ModuleOp module, const Target &target) {
  std::shared_ptr<CompiledKernels> kernels(new CompiledKernels());
  bool hasKernels = llvm::any_of(module.getOps<mlir::func::FuncOp>(), isKernel);
  if (!hasKernels)
    return kernels;
  auto object = getObject(module, target);
  if (!object)
    return object.takeError();
  auto jit = llvm::orc::LLJITBuilder().create();
  if (!jit)
    return jit.takeError();
  kernels->jit = std::move(*jit);
  writePerfMapIfAsked(*kernels->jit);
  // Kernels call libm and memcpy, which this process has.
  auto symbols =
      llvm::orc::DynamicLibrarySearchGenerator::GetForCurrentProcess(kernels->jit->getDataLayout().getGlobalPrefix());
  if (!symbols)
    return symbols.takeError();
  kernels->jit->getMainJITDylib().addGenerator(std::move(*symbols));
  // And conversions of f16, on processors without. Python loads extensions so that those of its libgcc are not seen.
  auto runtime =
      llvm::orc::DynamicLibrarySearchGenerator::Load("libgcc_s.so.1", kernels->jit->getDataLayout().getGlobalPrefix());
  if (runtime)
    kernels->jit->getMainJITDylib().addGenerator(std::move(*runtime));
  else
    llvm::consumeError(runtime.takeError());
  if (llvm::Error error = kernels->jit->addObjectFile(std::move(*object)))
    return error;
  return kernels;
}

CompiledKernels::Kernel CompiledKernels::lookup(llvm::StringRef name) const {
  if (!jit)
    return nullptr;
  auto address = jit->lookup((packedPrefix + name).str());
  if (!address) {
    llvm::consumeError(address.takeError());
    return nullptr;
  }
  return address->toPtr<Kernel>();
}
