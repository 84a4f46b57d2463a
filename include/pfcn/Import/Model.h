//===- Model.h - what every front end hands to the compiler ------------*- C++ -*-===//
//
// A module of the pfcn dialect, and the tensors that its leaves name. The function
// `forward` takes the model's tensor inputs and returns its tensor results, both flattened.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_IMPORT_MODEL_H
#define PFCN_IMPORT_MODEL_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <string>

namespace pfcn {

/// A context with the dialects that a model needs, from import to kernels.
std::unique_ptr<mlir::MLIRContext> createContext();

struct Model {
  std::shared_ptr<mlir::MLIRContext> context = createContext();
  mlir::OwningOpRef<mlir::ModuleOp> module;
  /// Parameters, buffers and captured constants by their torch path: what
  /// `pfcn.parameter` and `pfcn.parameter_stack` name.
  std::map<std::string, at::Tensor> tensors;
};

} // namespace pfcn

#endif // PFCN_IMPORT_MODEL_H
