//===- pfcn-opt.cpp - the compiler on the command line ---------------------------===//
//
// Reads a module, runs the passes or pipelines named by flags, and prints the result.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Codegen/Passes.h"
#include "pfcn/Conversion/PfcnToLinalg/Passes.h"
#include "pfcn/Dialect/Pfcn.h"
#include "pfcn/Pipelines/Pipelines.h"
#include "pfcn/Transforms/Passes.h"

#include "mlir/InitAllDialects.h"
#include "mlir/InitAllPasses.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"

int main(int argc, char **argv) {
  mlir::registerAllPasses();
  mlir::pfcn::registerPfcnToLinalgPasses();
  mlir::pfcn::registerPfcnCodegenPasses();
  mlir::pfcn::registerPipelines();
  mlir::pfcn::registerPfcnTransformsPasses();
  mlir::DialectRegistry registry;
  mlir::registerAllDialects(registry);
  registry.insert<mlir::pfcn::PfcnDialect>();
  return mlir::asMainReturnCode(mlir::MlirOptMain(argc, argv, "pfcn: a graph compiler for PyTorch\n", registry));
}
