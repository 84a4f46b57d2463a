//===- Reproducer.h - what to send when the compiler fails ----------------*- C++ -*-===//
//
// A compilation that failed is run again on a copy of the model, in which no value of the user's is left, until it
// fails at the same place: what remains is the module before the one pass that failed.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_RUNTIME_REPRODUCER_H
#define PFCN_RUNTIME_REPRODUCER_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/ADT/ArrayRef.h"

#include <functional>
#include <stdexcept>
#include <string>

namespace pfcn::runtime {

/// A phase of the compiler failed.
struct CompileFailure : std::runtime_error {
  CompileFailure(std::string phase, const std::string &message, std::string reproducer, std::string flags)
      : std::runtime_error(message), phase(std::move(phase)), reproducer(std::move(reproducer)),
        flags(std::move(flags)) {}

  std::string phase;
  /// A module to give to pfcn-opt, and the flags to give with it.
  std::string reproducer, flags;
};

using PipelineBuilder = std::function<void(mlir::OpPassManager &)>;

/// The values of constants are nobody's business: each becomes a splat of its first element's type's one, or zero.
void forgetValues(mlir::ModuleOp module);

/// Runs the pipelines on a copy of `model`; what `pfcn-opt --run-reproducer` takes for the pass that fails, or an
/// empty text where none does.
std::string reproducePassFailure(mlir::ModuleOp model, llvm::ArrayRef<PipelineBuilder> pipelines);

/// The module without values as text.
std::string printWithoutValues(mlir::ModuleOp module);

/// For tests: the phase that fails from now on, or an empty name for none.
void injectFailure(std::string phase);
bool isFailureInjected(const std::string &phase);

} // namespace pfcn::runtime

#endif // PFCN_RUNTIME_REPRODUCER_H
