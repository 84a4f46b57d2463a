//===- SimdBuilder.h - lanes of a SIMD register -------------------------*- C++ -*-===//
//
// One element per lane is a vector. Rows of lanes come from memory, and go back, by transposes in registers.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_CODEGEN_SIMDBUILDER_H
#define PFCN_CODEGEN_SIMDBUILDER_H

#include "pfcn/Codegen/LaneBuilder.h"

namespace mlir::pfcn {

class SimdBuilder final : public LaneBuilder {
public:
  using LaneBuilder::LaneBuilder;

  Type getLaneType(Type element) override { return getVectorType(element); }
  Value broadcast(Value value) override;
  int64_t getLanePitch(bool isTile) override { return lanes; }
  Value allocate(Type element, int64_t size) override;
  void pack(const Buffer &rows, OpFoldResult address, OpFoldResult laneStride, const Buffer &scratch,
            OpFoldResult scratchAddress, int64_t count) override;
  void unpack(const Buffer &scratch, OpFoldResult scratchAddress, const Buffer &rows, OpFoldResult address,
              OpFoldResult laneStride, int64_t count) override;

private:
  /// Neighbours in each of the rows that the lanes have.
  struct Panel {
    OpFoldResult first;
    int64_t width, rowSize;
  };

  Value loadLanes(const Buffer &buffer, OpFoldResult address) override;
  void storeLanes(Value value, const Buffer &buffer, OpFoldResult address) override;

  VectorType getVectorType(Type element) { return VectorType::get(lanes, element); }
  int64_t getPanelWidth(Type element);
  SmallVector<Value> transposePanel(ArrayRef<Value> vectors);
  void prefetchRows(Value memory, OpFoldResult address, OpFoldResult laneStride, Panel panel);
  void forEachPanel(Type element, int64_t count, function_ref<void(OpFoldResult, int64_t)> body);
};

} // namespace mlir::pfcn

#endif // PFCN_CODEGEN_SIMDBUILDER_H
