//===- CheckIndices.h - indices that have to be within their bounds -----*- C++ -*-===//

#ifndef PFCN_TRANSFORMS_CHECKINDICES_H
#define PFCN_TRANSFORMS_CHECKINDICES_H

#include "pfcn/Dialect/Pfcn.h"

namespace mlir::pfcn {

/// `indices`, by way of a foreign operator that raises what torch's `operatorName` would for one below 0 or above
/// `last` (a tensor without dimensions), `ignored` excepted.
Value buildIndexCheck(OpBuilder &builder, Location loc, Value indices, Value last, llvm::StringRef operatorName,
                      std::optional<int64_t> ignored = std::nullopt);

/// The last index of a dimension, as a constant.
Value buildLastIndex(OpBuilder &builder, Location loc, int64_t size);

} // namespace mlir::pfcn

#endif // PFCN_TRANSFORMS_CHECKINDICES_H
