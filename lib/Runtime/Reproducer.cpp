//===- Reproducer.cpp - what to send when the compiler fails ------------------------===//

#include "pfcn/Runtime/Reproducer.h"

#include "pfcn/JIT/Guard.h"

#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/Diagnostics.h"
#include "llvm/Support/raw_ostream.h"

#include <mutex>

namespace pfcn::runtime {

/// Of a tensor of numbers, a splat; a mask or an index keeps its first element, which is in range.
static mlir::Attribute forget(mlir::DenseElementsAttr elements) {
  if (elements.isSplat() || elements.empty())
    return elements;
  mlir::Type type = elements.getElementType();
  if (mlir::isa<mlir::FloatType>(type))
    return mlir::DenseElementsAttr::get(elements.getType(), mlir::Attribute(mlir::FloatAttr::get(type, 1.0)));
  return mlir::DenseElementsAttr::get(elements.getType(), *elements.value_begin<mlir::Attribute>());
}

void forgetValues(mlir::ModuleOp module) {
  module->walk([](mlir::Operation *op) {
    for (mlir::NamedAttribute attribute : op->getAttrs())
      if (auto elements = mlir::dyn_cast<mlir::DenseElementsAttr>(attribute.getValue()))
        op->setAttr(attribute.getName(), forget(elements));
    op->setLoc(mlir::UnknownLoc::get(op->getContext())); // nor are the paths of source files
  });
}

namespace {
/// Where MLIR writes the reproducer.
struct TextStream : mlir::ReproducerStream {
  explicit TextStream(std::string &text) : stream(text) {}
  llvm::StringRef description() override { return "the text of the error"; }
  llvm::raw_ostream &os() override { return stream; }

  llvm::raw_string_ostream stream;
};
} // namespace

std::string reproducePassFailure(mlir::ModuleOp model, llvm::ArrayRef<PipelineBuilder> pipelines) {
  mlir::ScopedDiagnosticHandler quiet(model.getContext(), [](mlir::Diagnostic &) { return mlir::success(); });
  mlir::OwningOpRef<mlir::ModuleOp> copy = model.clone();
  forgetValues(*copy);
  std::string text;
  CrashRecovery recovery;
  for (const PipelineBuilder &build : pipelines) {
    mlir::PassManager manager(copy->getContext());
    build(manager);
    manager.enableCrashReproducerGeneration([&](std::string &) { return std::make_unique<TextStream>(text); },
                                            /*genLocalReproducer=*/true);
    if (mlir::failed(manager.run(*copy)))
      break;
  }
  return text;
}

std::string printWithoutValues(mlir::ModuleOp module) {
  mlir::OwningOpRef<mlir::ModuleOp> copy = module.clone();
  forgetValues(*copy);
  std::string text;
  llvm::raw_string_ostream stream(text);
  copy->print(stream);
  return text;
}

static std::mutex injectionLock;
static std::string &getInjected() {
  static std::string phase;
  return phase;
}

void injectFailure(std::string phase) {
  std::lock_guard<std::mutex> lock(injectionLock);
  getInjected() = std::move(phase);
}

bool isFailureInjected(const std::string &phase) {
  std::lock_guard<std::mutex> lock(injectionLock);
  return getInjected() == phase;
}

} // namespace pfcn::runtime
