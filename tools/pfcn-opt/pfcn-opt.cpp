//===- pfcn-opt.cpp - the compiler on the command line ---------------------------===//
//
// Reads a module (or a file of torch.export or TorchScript), runs the passes or pipelines named by flags, and
// prints the result.
//
//===----------------------------------------------------------------------------===//

#include "Emit.h"
#include "TorchInput.h"

#include "pfcn/Codegen/Passes.h"
#include "pfcn/Conversion/PfcnToLinalg/Passes.h"
#include "pfcn/Dialect/Pfcn.h"
#include "pfcn/Pipelines/Pipelines.h"
#include "pfcn/Transforms/Passes.h"

#include "mlir/InitAllDialects.h"
#include "mlir/InitAllPasses.h"
#include "mlir/Support/FileUtilities.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/ToolOutputFile.h"

static llvm::cl::opt<std::string> inputShapes(
    "input-shapes",
    llvm::cl::desc("Types of the inputs of a .pt file, as in 1x20xf32,?x3xi64 (? for any size); a .pt2 file "
                   "has its own, and these are chosen among what it was exported for"));

static std::unique_ptr<llvm::MemoryBuffer> readInput(llvm::StringRef input) {
  if (isTorchFile(input))
    return importTorchFile(input, inputShapes);
  std::string error;
  std::unique_ptr<llvm::MemoryBuffer> buffer = mlir::openInputFile(input, &error);
  if (!buffer)
    llvm::errs() << error << "\n";
  return buffer;
}

static llvm::LogicalResult run(llvm::StringRef input, llvm::StringRef output, mlir::DialectRegistry &registry) {
  std::unique_ptr<llvm::MemoryBuffer> buffer = readInput(input);
  if (!buffer)
    return llvm::failure();
  std::string error;
  std::unique_ptr<llvm::ToolOutputFile> file = mlir::openOutputFile(output, &error);
  if (!file) {
    llvm::errs() << error << "\n";
    return llvm::failure();
  }
  auto config = mlir::MlirOptMainConfig::createFromCLOptions();
  if (!emitsMachineCode()) {
    if (failed(mlir::MlirOptMain(file->os(), std::move(buffer), registry, config)))
      return llvm::failure();
  } else {
    std::string module;
    llvm::raw_string_ostream stream(module);
    if (failed(mlir::MlirOptMain(stream, std::move(buffer), registry, config)) ||
        failed(emitModule(module, registry, file->os())))
      return llvm::failure();
  }
  file->keep();
  return llvm::success();
}

int main(int argc, char **argv) {
  mlir::registerAllPasses();
  mlir::pfcn::registerPfcnToLinalgPasses();
  mlir::pfcn::registerPfcnCodegenPasses();
  mlir::pfcn::registerPfcnTransformsPasses();
  mlir::pfcn::registerPipelines(getGpuChip);
  mlir::DialectRegistry registry;
  mlir::registerAllDialects(registry);
  registry.insert<mlir::pfcn::PfcnDialect>();
  auto [input, output] = mlir::registerAndParseCLIOptions(argc, argv, "pfcn: a graph compiler for PyTorch\n", registry);
  bool isPlain = !isTorchFile(input) && !emitsMachineCode();
  if (isPlain) // listing passes, dialects and the like included
    return mlir::asMainReturnCode(mlir::MlirOptMain(argc, argv, input, output, registry));
  llvm::InitLLVM init(argc, argv);
  return mlir::asMainReturnCode(run(input, output, registry));
}
