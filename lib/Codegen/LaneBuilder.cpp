//===- LaneBuilder.cpp - scalar code on lanes ----------------------------------------===//

#include "pfcn/Codegen/LaneBuilder.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/IR/TypeUtilities.h"

using namespace mlir;
using namespace mlir::pfcn;

//===----------------------------------------------------------------------------===//
// Indices and loops
//===----------------------------------------------------------------------------===//

Value LaneBuilder::toValue(OpFoldResult value) { return getValueOrCreateConstantIndexOp(*this, loc, value); }

/// As the code that computes it would.
static int64_t wrap(uint64_t value) { return static_cast<int64_t>(value); }

OpFoldResult LaneBuilder::add(OpFoldResult a, OpFoldResult b) {
  std::optional<int64_t> x = getConstantIntValue(a), y = getConstantIntValue(b);
  if (x && y)
    return constant(wrap(static_cast<uint64_t>(*x) + static_cast<uint64_t>(*y)));
  if (x == 0)
    return b;
  if (y == 0)
    return a;
  return arith::AddIOp::create(*this, loc, toValue(a), toValue(b)).getResult();
}

OpFoldResult LaneBuilder::mul(OpFoldResult a, OpFoldResult b) {
  std::optional<int64_t> x = getConstantIntValue(a), y = getConstantIntValue(b);
  if (x && y)
    return constant(wrap(static_cast<uint64_t>(*x) * static_cast<uint64_t>(*y)));
  if (x == 0 || y == 0)
    return constant(0);
  if (x == 1)
    return b;
  if (y == 1)
    return a;
  return arith::MulIOp::create(*this, loc, toValue(a), toValue(b)).getResult();
}

void LaneBuilder::loop(OpFoldResult end, int64_t step, function_ref<void(OpFoldResult)> body) {
  std::optional<int64_t> trips = getConstantIntValue(end);
  if (trips && *trips <= step) {
    if (*trips > 0)
      body(constant(0));
    return;
  }
  auto loop = scf::ForOp::create(*this, loc, toValue(constant(0)), toValue(end), toValue(constant(step)));
  OpBuilder::InsertionGuard guard(*this);
  setInsertionPointToStart(loop.getBody());
  body(loop.getInductionVar());
}

SmallVector<Value> LaneBuilder::loop(int64_t end, int64_t step, ArrayRef<Value> carried,
                                     function_ref<SmallVector<Value>(OpFoldResult, ArrayRef<Value>)> body) {
  if (end <= step)
    return end > 0 ? body(constant(0), carried) : SmallVector<Value>(carried);
  auto loop =
      scf::ForOp::create(*this, loc, toValue(constant(0)), toValue(constant(end)), toValue(constant(step)), carried);
  OpBuilder::InsertionGuard guard(*this);
  setInsertionPointToStart(loop.getBody());
  scf::YieldOp::create(*this, loc, body(loop.getInductionVar(), llvm::to_vector_of<Value>(loop.getRegionIterArgs())));
  return llvm::to_vector_of<Value>(loop.getResults());
}

void LaneBuilder::loops(ArrayRef<int64_t> shape, function_ref<void(ArrayRef<OpFoldResult>)> body) {
  SmallVector<OpFoldResult> indices;
  auto nest = [&](auto &self, size_t depth) -> void {
    if (depth == shape.size())
      return body(indices);
    loop(constant(shape[depth]), 1, [&](OpFoldResult index) {
      indices.push_back(index);
      self(self, depth + 1);
      indices.pop_back();
    });
  };
  nest(nest, 0);
}

//===----------------------------------------------------------------------------===//
// Elements
//===----------------------------------------------------------------------------===//

OpFoldResult LaneBuilder::getAddress(const Buffer &buffer, ArrayRef<OpFoldResult> indices) {
  OpFoldResult address = buffer.offset;
  for (auto [index, stride] : llvm::zip_equal(indices, buffer.strides))
    address = add(address, mul(index, stride));
  return address;
}

/// The type with the lanes of `like` and another element.
static Type withElement(Type like, Type element) {
  if (auto vector = dyn_cast<VectorType>(like))
    return vector.cloneWith(std::nullopt, element);
  return element;
}

Value LaneBuilder::load(const Buffer &buffer, ArrayRef<OpFoldResult> indices, Type element) {
  if (buffer.splat)
    return buffer.splat;
  OpFoldResult address = getAddress(buffer, indices);
  Value value = buffer.perLane ? loadLanes(buffer, address)
                               : memref::LoadOp::create(*this, loc, buffer.memory, toValue(address)).getResult();
  if (getElementTypeOrSelf(value.getType()) == element)
    return value;
  // A boolean is kept in a byte.
  return arith::TruncIOp::create(*this, loc, withElement(value.getType(), element), value);
}

void LaneBuilder::store(Value value, const Buffer &buffer, ArrayRef<OpFoldResult> indices) {
  OpFoldResult address = getAddress(buffer, indices);
  Type storage = cast<MemRefType>(buffer.memory.getType()).getElementType();
  if (buffer.perLane)
    value = broadcast(value);
  if (getElementTypeOrSelf(value.getType()) != storage)
    value = arith::ExtUIOp::create(*this, loc, withElement(value.getType(), storage), value);
  if (buffer.perLane)
    storeLanes(value, buffer, address);
  else
    memref::StoreOp::create(*this, loc, value, buffer.memory, toValue(address));
}
