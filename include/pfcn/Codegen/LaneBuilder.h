//===- LaneBuilder.h - scalar code on SIMD lanes ------------------------*- C++ -*-===//
//
// Buffers whose elements are scalars, the same in all lanes, or vectors of one element per lane; and the
// in-register transposes that bring rows of lanes from memory into that form and back.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_CODEGEN_LANEBUILDER_H
#define PFCN_CODEGEN_LANEBUILDER_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/OpDefinition.h"

namespace mlir::pfcn {

/// Memory seen as a tensor of the body. Where `isVector`, an element is a vector of the
/// lanes, contiguous in memory.
struct Buffer {
  /// A rank-1 memref, or null where every element is `splat`.
  Value memory;
  Value splat;
  OpFoldResult offset;
  SmallVector<OpFoldResult> strides;
  bool isVector = false;
};

class LaneBuilder : public OpBuilder {
public:
  LaneBuilder(OpBuilder builder, Location loc, int64_t lanes) : OpBuilder(builder), loc(loc), lanes(lanes) {}

  Location getLoc() const { return loc; }
  int64_t getLanes() const { return lanes; }
  void setLanes(int64_t count) { lanes = count; }

  // Index arithmetic, folded where the values are known.
  OpFoldResult constant(int64_t value) { return getIndexAttr(value); }
  OpFoldResult add(OpFoldResult a, OpFoldResult b);
  OpFoldResult mul(OpFoldResult a, OpFoldResult b);
  Value toValue(OpFoldResult value);

  VectorType getVectorType(Type element) { return VectorType::get(lanes, element); }
  /// The scalar in every lane; a vector as it is.
  Value broadcast(Value value);

  /// Memory for `elements` vectors of lanes (or scalars).
  Value allocate(Type element, int64_t elements, bool isVector);
  OpFoldResult getAddress(const Buffer &buffer, ArrayRef<OpFoldResult> indices);
  Value load(const Buffer &buffer, ArrayRef<OpFoldResult> indices, Type element);
  void store(Value value, const Buffer &buffer, ArrayRef<OpFoldResult> indices);

  /// `count` consecutive elements of each lane's row, rows `laneStride` apart from `address` on, into
  /// (or out of) `count` vectors from `scratchAddress` on.
  void pack(Value memory, OpFoldResult address, OpFoldResult laneStride, Value scratch, OpFoldResult scratchAddress,
            int64_t count);
  void unpack(Value scratch, OpFoldResult scratchAddress, Value memory, OpFoldResult address, OpFoldResult laneStride,
              int64_t count);

  /// A counted loop from 0 to `end`; the body is not a loop where there is one iteration.
  void loop(OpFoldResult end, int64_t step, function_ref<void(OpFoldResult)> body);
  /// Nested loops over a static shape.
  void loops(ArrayRef<int64_t> shape, function_ref<void(ArrayRef<OpFoldResult>)> body);

private:
  int64_t getPanelWidth(Type element);
  SmallVector<Value> transposePanel(ArrayRef<Value> vectors);
  void forEachPanel(Type element, int64_t count, function_ref<void(OpFoldResult, int64_t)> body);

  Location loc;
  int64_t lanes;
};

} // namespace mlir::pfcn

#endif // PFCN_CODEGEN_LANEBUILDER_H
