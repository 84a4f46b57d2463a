//===- Module.cpp - the extension module pfcn._C ---------------------------------===//

#include "Module.h"

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  module.doc() = "The compiler and runtime behind pfcn; private, use the package instead.";
  pfcn::bindImport(module);
  pfcn::bindRuntime(module);
}
