//===- CpuMachine.cpp - what the cost models know of a processor ---------------------===//

#include "pfcn/Codegen/CpuMachine.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"

#include <cmath>

using namespace mlir::pfcn;

namespace {
struct Field {
  llvm::StringLiteral name;
  double CpuMachine::*value;
};
} // namespace

static constexpr Field fields[] = {{"library-rate", &CpuMachine::libraryRate},
                                   {"operation", &CpuMachine::operation},
                                   {"call", &CpuMachine::call},
                                   {"matrix", &CpuMachine::matrix},
                                   {"second-cache", &CpuMachine::secondCache},
                                   {"last-cache", &CpuMachine::lastCache},
                                   {"memory", &CpuMachine::memory}};

CpuMachine CpuMachine::of(llvm::StringRef cpu) {
  CpuMachine machine;
  if (!cpu.starts_with("znver"))
    return machine;
  // EPYC of the fourth generation: half as many loads of 64 bytes a cycle, which kernels suffer from more than
  // libraries.
  machine.libraryRate = 1.2;
  machine.operation = 0.39;
  machine.call = 520;
  machine.secondCache = 0.54;
  machine.lastCache = 0.65;
  machine.memory = 3.1;
  return machine;
}

llvm::Error CpuMachine::set(llvm::StringRef text) {
  llvm::SmallVector<llvm::StringRef> parts;
  llvm::SplitString(text, parts, ";\n");
  for (llvm::StringRef part : parts) {
    auto [name, number] = part.split('=');
    const auto *field = llvm::find_if(fields, [&, name = name.trim()](const Field &f) { return f.name == name; });
    double value = 0;
    if (field == std::end(fields) || number.trim().getAsDouble(value) || !std::isfinite(value) || value < 0 ||
        (value == 0 && field->value != &CpuMachine::libraryRate)) {
      std::string names = llvm::join(llvm::map_range(fields, [](const Field &f) { return f.name.str(); }), ", ");
      return llvm::createStringError("'" + part.trim() + "' is not one of " + names + ", '=' and a positive number");
    }
    this->*field->value = value;
  }
  return llvm::Error::success();
}

std::string CpuMachine::str() const {
  return llvm::join(
      llvm::map_range(fields,
                      [&](const Field &f) { return llvm::formatv("{0}={1:F3}", f.name, this->*f.value).str(); }),
      ";");
}

double CpuMachine::getStreamCost(double bytes) const {
  double line = bytes > (24 << 20) ? memory : bytes > (2 << 20) ? lastCache : secondCache;
  return bytes / 64 * line / operation;
}
