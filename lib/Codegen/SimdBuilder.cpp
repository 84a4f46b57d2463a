//===- SimdBuilder.cpp - lanes of a SIMD register ------------------------------------===//

#include "pfcn/Codegen/SimdBuilder.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::pfcn;

Value SimdBuilder::broadcast(Value value) {
  if (isa<VectorType>(value.getType()))
    return value;
  return vector::BroadcastOp::create(*this, loc, getVectorType(value.getType()), value);
}

Value SimdBuilder::allocate(Type element, int64_t size) {
  return memref::AllocaOp::create(*this, loc, MemRefType::get({size}, element), getI64IntegerAttr(64));
}

Value SimdBuilder::loadLanes(const Buffer &buffer, OpFoldResult address) {
  Type element = cast<MemRefType>(buffer.memory.getType()).getElementType();
  return vector::LoadOp::create(*this, loc, getVectorType(element), buffer.memory, toValue(address));
}

void SimdBuilder::storeLanes(Value value, const Buffer &buffer, OpFoldResult address) {
  vector::StoreOp::create(*this, loc, value, buffer.memory, toValue(address));
}

//===----------------------------------------------------------------------------===//
// Rows of lanes
//===----------------------------------------------------------------------------===//

// A panel is as many elements of each row as fit 128 bits: x86 shuffles cheaply inside such a part of
// a register, and joins parts while it loads them.
int64_t SimdBuilder::getPanelWidth(Type element) {
  int64_t width = element.getIntOrFloatBitWidth() >= 64 ? 2 : 4;
  return lanes % width == 0 ? width : 1;
}

/// Transposes in each 128-bit part: lane g * P + i of result j is lane g * P + j of vector i.
SmallVector<Value> SimdBuilder::transposePanel(ArrayRef<Value> vectors) {
  int64_t width = vectors.size();
  auto shuffle = [&](Value a, Value b, ArrayRef<int64_t> part) {
    SmallVector<int64_t> mask;
    for (int64_t base = 0; base < lanes; base += width)
      for (int64_t index : part)
        mask.push_back(index < width ? base + index : lanes + base + index - width);
    return vector::ShuffleOp::create(*this, loc, a, b, mask).getResult();
  };
  if (width == 1)
    return {vectors.front()};
  if (width == 2)
    return {shuffle(vectors[0], vectors[1], {0, 2}), shuffle(vectors[0], vectors[1], {1, 3})};
  Value low01 = shuffle(vectors[0], vectors[1], {0, 4, 1, 5}), low23 = shuffle(vectors[2], vectors[3], {0, 4, 1, 5});
  Value high01 = shuffle(vectors[0], vectors[1], {2, 6, 3, 7}), high23 = shuffle(vectors[2], vectors[3], {2, 6, 3, 7});
  return {shuffle(low01, low23, {0, 1, 4, 5}), shuffle(low01, low23, {2, 3, 6, 7}),
          shuffle(high01, high23, {0, 1, 4, 5}), shuffle(high01, high23, {2, 3, 6, 7})};
}

/// Calls `body` with the first element and width of panels that cover `count` elements: a last
/// panel overlaps its neighbour, and rows shorter than a panel go element by element.
void SimdBuilder::forEachPanel(Type element, int64_t count, function_ref<void(OpFoldResult, int64_t)> body) {
  int64_t width = getPanelWidth(element);
  if (count < width)
    width = 1;
  loop(constant(count / width * width), width, [&](OpFoldResult first) { body(first, width); });
  if (count % width != 0)
    body(constant(count - width), width);
}

/// Asks for what a later panel reads, in the next tile or, where rows are long, further along them: hardware sees too
/// many rows at once to do so. The panels of one line of the cache have a share of the lanes each.
void SimdBuilder::prefetchRows(Value memory, OpFoldResult address, OpFoldResult laneStride, Panel panel) {
  constexpr int64_t lineBytes = 64, mostBytes = 64 << 10, aheadBytes = 4 << 10;
  int64_t bytes = cast<MemRefType>(memory.getType()).getElementTypeBitWidth() / 8;
  int64_t panels = lineBytes / (panel.width * bytes);
  if (panels < 1 || lanes % panels != 0)
    return;
  bool isShort = panel.rowSize * lanes * bytes <= mostBytes;
  OpFoldResult ahead = isShort ? mul(constant(lanes), laneStride) : OpFoldResult(constant(aheadBytes / bytes));
  Value number = arith::DivUIOp::create(*this, loc, toValue(panel.first), toValue(constant(panel.width)));
  Value turn = arith::RemUIOp::create(*this, loc, number, toValue(constant(panels)));
  int64_t share = lanes / panels;
  OpFoldResult row = add(add(address, ahead), mul(mul(OpFoldResult(turn), constant(share)), laneStride));
  for (int64_t i = 0; i < share; ++i)
    memref::PrefetchOp::create(*this, loc, memory, toValue(add(row, mul(constant(i), laneStride))), /*isWrite=*/false,
                               /*localityHint=*/3, /*isDataCache=*/true);
}

void SimdBuilder::pack(const Buffer &rows, OpFoldResult address, OpFoldResult laneStride, const Buffer &scratch,
                       OpFoldResult scratchAddress, int64_t count) {
  Value memory = rows.memory;
  Type element = cast<MemRefType>(memory.getType()).getElementType();
  forEachPanel(element, count, [&](OpFoldResult first, int64_t width) {
    SmallVector<Value> vectors;
    auto rowAddress = [&](int64_t lane) { return toValue(add(add(address, first), mul(constant(lane), laneStride))); };
    for (int64_t i = 0; i < width; ++i) {
      // Rows i, i + width, ...: one per 128-bit part, joined pairwise.
      SmallVector<Value> parts;
      for (int64_t lane = i; lane < lanes; lane += width)
        if (width == 1)
          parts.push_back(memref::LoadOp::create(*this, loc, memory, rowAddress(lane)));
        else
          parts.push_back(
              vector::LoadOp::create(*this, loc, VectorType::get(width, element), memory, rowAddress(lane)));
      if (width == 1) {
        vectors.push_back(vector::FromElementsOp::create(*this, loc, getVectorType(element), parts));
        continue;
      }
      while (parts.size() > 1) {
        SmallVector<Value> joined;
        for (size_t k = 0; k < parts.size(); k += 2) {
          int64_t size = cast<VectorType>(parts[k].getType()).getDimSize(0);
          joined.push_back(vector::ShuffleOp::create(*this, loc, parts[k], parts[k + 1],
                                                     llvm::to_vector(llvm::seq<int64_t>(0, 2 * size))));
        }
        parts = joined;
      }
      vectors.push_back(parts.front());
    }
    if (width > 1 && rows.isFar)
      prefetchRows(memory, add(address, first), laneStride, {first, width, count});
    for (auto [i, vector] : llvm::enumerate(transposePanel(vectors))) {
      OpFoldResult index = mul(add(first, constant(i)), constant(scratch.pitch ? scratch.pitch : lanes));
      vector::StoreOp::create(*this, loc, vector, scratch.memory, toValue(add(scratchAddress, index)));
    }
  });
}

void SimdBuilder::unpack(const Buffer &scratch, OpFoldResult scratchAddress, const Buffer &rows, OpFoldResult address,
                         OpFoldResult laneStride, int64_t count) {
  Value memory = rows.memory;
  Type element = cast<MemRefType>(memory.getType()).getElementType();
  forEachPanel(element, count, [&](OpFoldResult first, int64_t width) {
    SmallVector<Value> vectors;
    for (int64_t i = 0; i < width; ++i) {
      OpFoldResult index = mul(add(first, constant(i)), constant(scratch.pitch ? scratch.pitch : lanes));
      vectors.push_back(vector::LoadOp::create(*this, loc, getVectorType(element), scratch.memory,
                                               toValue(add(scratchAddress, index))));
    }
    for (auto [i, vector] : llvm::enumerate(transposePanel(vectors))) {
      for (int64_t part = 0; part < lanes / width; ++part) {
        int64_t lane = part * width + i;
        Value row = toValue(add(add(address, first), mul(constant(lane), laneStride)));
        if (width == 1) {
          Value scalar = vector::ExtractOp::create(*this, loc, vector, ArrayRef<int64_t>{part});
          memref::StoreOp::create(*this, loc, scalar, memory, row);
        } else {
          Value chunk = vector::ExtractStridedSliceOp::create(*this, loc, vector, ArrayRef<int64_t>{part * width},
                                                              ArrayRef<int64_t>{width}, ArrayRef<int64_t>{1});
          vector::StoreOp::create(*this, loc, chunk, memory, row);
        }
      }
    }
  });
}
