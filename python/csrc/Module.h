//===- Module.h - the parts of the extension module pfcn._C -------------*- C++ -*-===//

#ifndef PFCN_PYTHON_MODULE_H
#define PFCN_PYTHON_MODULE_H

#include "pfcn/Import/Model.h"

#include <torch/csrc/utils/pybind.h>

namespace pfcn {
/// The front ends: recording a forward, importing TorchScript.
void bindImport(pybind11::module_ &module);
/// Plans, and what runs them.
void bindRuntime(pybind11::module_ &module);
} // namespace pfcn

#endif // PFCN_PYTHON_MODULE_H
