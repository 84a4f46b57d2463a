//===- GenerateCode.cpp - LLVM IR as machine code or assembly ------------------------===//

#include "pfcn/JIT/GenerateCode.h"

#include "pfcn/JIT/Guard.h"

#include "mlir/ExecutionEngine/OptUtils.h"
#include "llvm/IR/DiagnosticInfo.h"
#include "llvm/IR/DiagnosticPrinter.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/Support/raw_ostream.h"

#include <tuple>

using namespace pfcn;

/// Without one, LLVM prints errors and ends the process.
static void collectErrors(const llvm::DiagnosticInfo *diagnostic, void *text) {
  if (diagnostic->getSeverity() != llvm::DS_Error)
    return;
  llvm::raw_string_ostream stream(*static_cast<std::string *>(text));
  stream << "\n  ";
  llvm::DiagnosticPrinterRawOStream printer(stream);
  diagnostic->print(printer);
}

/// Runs `body` on the module; what it leaves behind when it fails is not touched again.
static llvm::Error run(OwnedModule &owned, llvm::function_ref<llvm::Error()> body) {
  std::string errors;
  owned.context->setDiagnosticHandlerCallBack(collectErrors, &errors);
  llvm::Error error = runGuarded(body);
  if (error) {
    std::ignore = owned.module.release();
    std::ignore = owned.context.release();
    return error;
  }
  owned.context->setDiagnosticHandlerCallBack(nullptr);
  if (!errors.empty())
    return llvm::createStringError("LLVM cannot compile the kernels:" + errors);
  return llvm::Error::success();
}

llvm::Error pfcn::optimise(OwnedModule &owned, llvm::TargetMachine &machine) {
  owned.module->setDataLayout(machine.createDataLayout());
  owned.module->setTargetTriple(machine.getTargetTriple());
  return run(owned, [&] {
    return mlir::makeOptimizingTransformer(/*optLevel=*/3, /*sizeLevel=*/0, &machine)(owned.module.get());
  });
}

llvm::Expected<llvm::SmallVector<char, 0>> pfcn::generateCode(OwnedModule owned, llvm::TargetMachine &machine,
                                                              llvm::CodeGenFileType fileType) {
  llvm::SmallVector<char, 0> code;
  llvm::raw_svector_ostream stream(code);
  llvm::Error error = run(owned, [&]() -> llvm::Error {
    llvm::legacy::PassManager passes;
    if (machine.addPassesToEmitFile(passes, stream, nullptr, fileType))
      return llvm::createStringError("the target cannot emit this kind of file");
    passes.run(*owned.module);
    return llvm::Error::success();
  });
  if (error)
    return error;
  return code;
}
