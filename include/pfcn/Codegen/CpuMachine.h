//===- CpuMachine.h - what the cost models know of a processor ----------*- C++ -*-===//
//
// Estimates count vector operations; what else takes time is given in ns, and compared by that of a vector operation.
// The defaults are of torch 2.13 with MKL on one core of a server (AMD EPYC, AVX-512). `python -m pfcn calibrate`
// measures them, and compilation then finds them in the cache.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_CODEGEN_CPUMACHINE_H
#define PFCN_CODEGEN_CPUMACHINE_H

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <cstdint>
#include <string>

namespace mlir::pfcn {

struct CpuMachine {
  int64_t vectorBytes = 64;
  /// The part of the rate of kernels at which a library multiplies matrices; 0 to take no kernel for slower than it.
  double libraryRate = 0.5;
  /// A vector operation.
  double operation = 0.17;
  /// A call through torch's dispatcher, with its new tensor; a small matrix in a batched product.
  double call = 2000, matrix = 50;
  /// A line of 64 bytes of one stream from the second cache, from the last one, and from memory.
  double secondCache = 0.17, lastCache = 0.68, memory = 1.36;

  /// The numbers of a processor as LLVM names it; `python -m pfcn calibrate` measured them on one of its kind. Those
  /// above are of an Intel server.
  static CpuMachine of(llvm::StringRef cpu);
  /// Sets what a text such as `call=3000;library-rate=0.4` names. Separators are semicolons or ends of lines.
  llvm::Error set(llvm::StringRef text);
  /// The text of all that `set` knows.
  std::string str() const;

  double getCallCost() const { return call / operation; }
  double getMatrixCost() const { return matrix / operation; }
  /// Vector operations in whose time one stream of `bytes` is read.
  double getStreamCost(double bytes) const;
  double toMicroseconds(double operations) const { return operations * operation / 1000; }
};

} // namespace mlir::pfcn

#endif // PFCN_CODEGEN_CPUMACHINE_H
