//===- LaneBuilder.h - scalar code on lanes -----------------------------*- C++ -*-===//
//
// A kernel computes many elements of one parallel dimension at once: in the lanes of a SIMD register, or in the
// threads of a warp. To the ops of a body both are scalar code on lanes; this is what they differ in.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_CODEGEN_LANEBUILDER_H
#define PFCN_CODEGEN_LANEBUILDER_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/OpDefinition.h"

namespace mlir::pfcn {

/// Memory seen as a tensor of the body. Where `perLane`, each element is one per lane, the lanes
/// side by side.
struct Buffer {
  /// A rank-1 memref, or null where every element is `splat`.
  Value memory;
  Value splat;
  OpFoldResult offset;
  SmallVector<OpFoldResult> strides;
  bool perLane = false;
  /// How far the next element of a lane lies, where that is not the number of lanes.
  int64_t pitch = 0;
  /// Tiles of it are shared by the lanes, which read each other's part only where they
  /// stand in for it; otherwise a lane has its own part.
  bool isTile = false;
  /// The caller's memory, in contrast to scratch.
  bool isGlobal = false;
  /// More than the caches of a core hold.
  bool isFar = false;
};

class LaneBuilder : public OpBuilder {
public:
  LaneBuilder(OpBuilder builder, Location loc, int64_t lanes) : OpBuilder(builder), loc(loc), lanes(lanes) {}
  virtual ~LaneBuilder() = default;

  Location getLoc() const { return loc; }
  int64_t getLanes() const { return lanes; }
  void setLanes(int64_t count) { lanes = count; }

  // Index arithmetic, folded where the values are known.
  OpFoldResult constant(int64_t value) { return getIndexAttr(value); }
  OpFoldResult add(OpFoldResult a, OpFoldResult b);
  OpFoldResult mul(OpFoldResult a, OpFoldResult b);
  Value toValue(OpFoldResult value);

  /// A counted loop from 0 to `end`; the body is not a loop where there is one iteration.
  void loop(OpFoldResult end, int64_t step, function_ref<void(OpFoldResult)> body);
  /// The same with values carried from one iteration to the next.
  SmallVector<Value> loop(int64_t end, int64_t step, ArrayRef<Value> carried,
                          function_ref<SmallVector<Value>(OpFoldResult, ArrayRef<Value>)> body);
  /// Nested loops over a static shape.
  void loops(ArrayRef<int64_t> shape, function_ref<void(ArrayRef<OpFoldResult>)> body);

  OpFoldResult getAddress(const Buffer &buffer, ArrayRef<OpFoldResult> indices);
  Value load(const Buffer &buffer, ArrayRef<OpFoldResult> indices, Type element);
  void store(Value value, const Buffer &buffer, ArrayRef<OpFoldResult> indices);

  /// The type of one element per lane.
  virtual Type getLaneType(Type element) = 0;
  /// A value that is the same in all lanes, as one per lane.
  virtual Value broadcast(Value value) = 0;
  /// How far the next element of scratch lies, with one per lane in between.
  virtual int64_t getLanePitch(bool isTile) = 0;
  /// What an allocation of so many scalars really takes, in scalars.
  virtual int64_t getAllocated(Type element, int64_t size) { return size; }
  /// Scratch at the builder's place for `size` scalars.
  virtual Value allocate(Type element, int64_t size) = 0;

  /// `count` consecutive elements of each lane's row, rows `laneStride` apart from `address` on, into
  /// a tile of scratch from `scratchAddress` on; and back.
  virtual void pack(const Buffer &rows, OpFoldResult address, OpFoldResult laneStride, const Buffer &scratch,
                    OpFoldResult scratchAddress, int64_t count) = 0;
  virtual void unpack(const Buffer &scratch, OpFoldResult scratchAddress, const Buffer &rows, OpFoldResult address,
                      OpFoldResult laneStride, int64_t count) = 0;

protected:
  virtual Value loadLanes(const Buffer &buffer, OpFoldResult address) = 0;
  virtual void storeLanes(Value value, const Buffer &buffer, OpFoldResult address) = 0;

  Location loc;
  int64_t lanes;
};

} // namespace mlir::pfcn

#endif // PFCN_CODEGEN_LANEBUILDER_H
