//===- Model.cpp - the context of an imported model -------------------------------===//

#include "pfcn/Import/Model.h"

#include "pfcn/Dialect/Pfcn.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

std::unique_ptr<mlir::MLIRContext> pfcn::createContext() {
  // Importing and compiling stay on the calling thread: torch owns the thread pool.
  auto context = std::make_unique<mlir::MLIRContext>(mlir::MLIRContext::Threading::DISABLED);
  context->loadDialect<mlir::arith::ArithDialect, mlir::func::FuncDialect, mlir::tensor::TensorDialect,
                       mlir::pfcn::PfcnDialect>();
  return context;
}
