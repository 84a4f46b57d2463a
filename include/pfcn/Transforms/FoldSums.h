//===- FoldSums.h - a sum written as a chain of additions -------------*- C++ -*-===//
//
// See FoldSums.cpp.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_TRANSFORMS_FOLDSUMS_H
#define PFCN_TRANSFORMS_FOLDSUMS_H

#include "mlir/IR/Block.h"

namespace mlir::pfcn {

/// Turns chains of additions over all the ops of one class into `pfcn.sum` of `pfcn.stack`.
void foldSums(Block &block);

} // namespace mlir::pfcn

#endif // PFCN_TRANSFORMS_FOLDSUMS_H
