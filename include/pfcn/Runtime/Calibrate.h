//===- Calibrate.h - the cost models' numbers for this machine ----------*- C++ -*-===//

#ifndef PFCN_RUNTIME_CALIBRATE_H
#define PFCN_RUNTIME_CALIBRATE_H

#include "pfcn/Codegen/CpuMachine.h"

namespace pfcn::runtime {

/// Measures them, in about a second. On one thread, if torch has one only.
mlir::pfcn::CpuMachine measureMachine();

/// What was stored for this processor in the cache that the environment names now, or the defaults.
mlir::pfcn::CpuMachine loadMachine();
void storeMachine(const mlir::pfcn::CpuMachine &machine);

} // namespace pfcn::runtime

#endif // PFCN_RUNTIME_CALIBRATE_H
