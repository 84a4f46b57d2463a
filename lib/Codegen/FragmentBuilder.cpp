//===- FragmentBuilder.cpp - lanes as fragments of tensor cores -------------------------===//

#include "pfcn/Codegen/FragmentBuilder.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::pfcn;

static constexpr int64_t members = 4;

SmallVector<FeatureRun> FragmentBuilder::getRuns(int64_t features, int64_t bytes) {
  SmallVector<FeatureRun> runs;
  int64_t base = 0, longestRun = 16 / bytes;
  for (int64_t left = 2 * llvm::divideCeil(features, 2 * members); left > 0;) {
    int64_t length = std::min<int64_t>(longestRun, llvm::bit_floor<uint64_t>(left));
    // 24 features at the end are three whole accesses and a thread without, rather than two sets of narrow ones.
    if (features % longestRun == 0 && left > longestRun / 2)
      length = longestRun;
    runs.push_back({base, length});
    base = runs.back().getEnd();
    left -= length;
  }
  return runs;
}

int64_t FragmentBuilder::countPairs(int64_t features, int64_t bytes) {
  int64_t pairs = 0;
  for (FeatureRun run : getRuns(features, bytes))
    pairs += run.getPairs();
  return pairs;
}

void FragmentBuilder::enter(gpu::GPUFuncOp function) {
  ThreadBuilder::enter(function);
  group = arith::DivUIOp::create(*this, loc, thread, toValue(constant(members)));
  member = arith::RemUIOp::create(*this, loc, thread, toValue(constant(members)));
}

void FragmentBuilder::setActive(OpFoldResult active) {
  rows.clear();
  activeRows = isConstantIntValue(active, lanes) ? Value() : toValue(active);
  Value last = activeRows ? toValue(add(activeRows, constant(-1))) : Value();
  for (int64_t first = 0; first < lanes; first += rowsApart) {
    Value row = toValue(add(group, constant(first)));
    rows.push_back(activeRows ? arith::MinSIOp::create(*this, loc, row, last).getResult() : row);
  }
}

Value FragmentBuilder::broadcast(Value value) {
  if (isa<VectorType>(value.getType()))
    return value;
  return vector::BroadcastOp::create(*this, loc, getLaneType(value.getType()), value);
}

Value FragmentBuilder::getZero(Type type) { return arith::ConstantOp::create(*this, loc, getZeroAttr(type)); }

Value FragmentBuilder::getElement(Value pair, int64_t index) {
  return vector::ExtractOp::create(*this, loc, pair, ArrayRef<int64_t>{index});
}

Value FragmentBuilder::makePair(Value first, Value second) {
  return vector::FromElementsOp::create(*this, loc, cast<VectorType>(getLaneType(first.getType())),
                                        ValueRange{first, second});
}

/// A value as what is not known and what is.
static std::pair<OpFoldResult, int64_t> split(OpBuilder &builder, OpFoldResult value) {
  if (std::optional<int64_t> known = getConstantIntValue(value))
    return {builder.getIndexAttr(0), *known};
  if (auto add = cast<Value>(value).getDefiningOp<arith::AddIOp>())
    if (std::optional<int64_t> known = getConstantIntValue(add.getRhs()))
      return {add.getLhs(), *known};
  return {value, 0};
}

OpFoldResult FragmentBuilder::sum(OpFoldResult a, OpFoldResult b) {
  auto [first, known] = split(*this, a);
  auto [second, alsoKnown] = split(*this, b);
  return add(add(first, second), constant(known + alsoKnown));
}

OpFoldResult FragmentBuilder::scale(OpFoldResult value, OpFoldResult factor) {
  std::optional<int64_t> by = getConstantIntValue(factor);
  if (!by)
    return mul(value, factor);
  auto [variable, known] = split(*this, value);
  return add(mul(variable, factor), constant(known * *by));
}

//===----------------------------------------------------------------------------===//
// Which rows and features there are
//===----------------------------------------------------------------------------===//

Value FragmentBuilder::compareBelow(Value index, int64_t limit) {
  return arith::CmpIOp::create(*this, loc, arith::CmpIPredicate::slt, index, toValue(constant(limit)));
}

void FragmentBuilder::emitIf(Value condition, function_ref<void()> body) {
  auto guarded = scf::IfOp::create(*this, loc, condition, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(*this);
  setInsertionPointToStart(guarded.thenBlock());
  body();
}

void FragmentBuilder::ifRow(unsigned i, function_ref<void()> body) {
  if (!activeRows)
    return body();
  Value row = toValue(add(group, constant(i * rowsApart)));
  emitIf(arith::CmpIOp::create(*this, loc, arith::CmpIPredicate::slt, row, activeRows), body);
}

void FragmentBuilder::ifFirstMember(function_ref<void()> body) { emitIf(compareBelow(member, 1), body); }

/// Feature `offset` of this thread's part of a run.
OpFoldResult FragmentBuilder::getFeature(FeatureRun run, int64_t offset) {
  return add(mul(member, constant(run.length)), constant(run.base + offset));
}

Value FragmentBuilder::getMask(FeatureRun run, int64_t pair, int64_t features) {
  int64_t offset = 2 * pair;
  if (run.base + (members - 1) * run.length + offset + 1 < features)
    return {};
  Value first = compareBelow(toValue(getFeature(run, offset)), features);
  if (features % 2 == 0)
    return broadcast(first);
  return makePair(first, compareBelow(toValue(getFeature(run, offset + 1)), features));
}

Value FragmentBuilder::selectFeatures(FeatureRun run, int64_t index, int64_t features, Value pair, Value other) {
  Value mask = getMask(run, index, features);
  return mask ? arith::SelectOp::create(*this, loc, mask, pair, other).getResult() : pair;
}

OpFoldResult FragmentBuilder::getColumn(FeatureRun run, int64_t pair, int64_t features) {
  // Columns 2 t and 2 t + 1 of a product are the accumulators of member t; column g is the operand of group g.
  Value half = arith::DivUIOp::create(*this, loc, group, toValue(constant(2)));
  Value odd = arith::RemUIOp::create(*this, loc, group, toValue(constant(2)));
  OpFoldResult column = add(add(mul(half, constant(run.length)), odd), constant(run.base + 2 * pair));
  if (run.base + (members - 1) * run.length + 2 * pair + 1 < features)
    return column;
  return arith::MinSIOp::create(*this, loc, toValue(column), toValue(constant(features - 1))).getResult();
}

//===----------------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------------===//

SmallVector<Value> FragmentBuilder::loadRun(const Buffer &buffer, OpFoldResult address, OpFoldResult stride,
                                            FeatureRun run, int64_t features, int64_t width) {
  width = std::min(width, run.length);
  Type element = cast<MemRefType>(buffer.memory.getType()).getElementType();
  int64_t bytes = element.getIntOrFloatBitWidth() / 8;
  SmallVector<Value> elements, pairs;
  // A thread with all of the run or none of it has one address, which its accesses are known distances from.
  bool isWhole = (features - run.base) % run.length == 0;
  OpFoldResult first = getFeature(run, 0);
  if (isWhole && run.getEnd() > features)
    first = arith::MinSIOp::create(*this, loc, toValue(first), toValue(constant(features - run.length))).getResult();
  for (int64_t offset = 0; offset < run.length; offset += width) {
    OpFoldResult feature = isWhole ? sum(first, constant(offset)) : getFeature(run, offset);
    if (!isWhole && run.base + (members - 1) * run.length + offset + width > features)
      feature = arith::MinSIOp::create(*this, loc, toValue(feature), toValue(constant(features - width))).getResult();
    Value at = toValue(sum(address, scale(feature, stride)));
    if (width == 1) {
      elements.push_back(memref::LoadOp::create(*this, loc, buffer.memory, at));
      continue;
    }
    Value loaded = vector::LoadOp::create(*this, loc, VectorType::get({width}, element), buffer.memory, at,
                                          /*nontemporal=*/false, llvm::MaybeAlign(width * bytes));
    for (int64_t i = 0; i < width; i += 2)
      pairs.push_back(width == 2 ? loaded
                                 : vector::ExtractStridedSliceOp::create(*this, loc, loaded, ArrayRef<int64_t>{i},
                                                                         ArrayRef<int64_t>{2}, ArrayRef<int64_t>{1}));
  }
  for (size_t i = 0; i < elements.size(); i += 2)
    pairs.push_back(makePair(elements[i], elements[i + 1]));
  return pairs;
}

void FragmentBuilder::storeRun(ArrayRef<Value> pairs, const Buffer &buffer, OpFoldResult address, OpFoldResult stride,
                               FeatureRun run, int64_t features, int64_t width) {
  width = std::min(width, run.length);
  Type element = cast<MemRefType>(buffer.memory.getType()).getElementType();
  int64_t bytes = element.getIntOrFloatBitWidth() / 8;
  for (int64_t offset = 0; offset < run.length; offset += width) {
    OpFoldResult feature = getFeature(run, offset);
    auto store = [&] {
      Value at = toValue(sum(address, scale(feature, stride)));
      if (width == 1) {
        Value value = getElement(pairs[offset / 2], offset % 2);
        memref::StoreOp::create(*this, loc, value, buffer.memory, at);
        return;
      }
      SmallVector<Value> elements;
      for (int64_t i = 0; i < width; ++i)
        elements.push_back(getElement(pairs[(offset + i) / 2], i % 2));
      Value whole = vector::FromElementsOp::create(*this, loc, VectorType::get({width}, element), elements);
      vector::StoreOp::create(*this, loc, whole, buffer.memory, at, /*nontemporal=*/false,
                              llvm::MaybeAlign(width * bytes));
    };
    if (run.base + (members - 1) * run.length + offset + width > features)
      emitIf(compareBelow(toValue(feature), features), store);
    else
      store();
  }
}

/// The value that the thread `distance` away has.
Value FragmentBuilder::exchange(Value value, int32_t distance) {
  Type type = value.getType(), bits = getIntegerType(type.getIntOrFloatBitWidth());
  bool isNarrow = bits.getIntOrFloatBitWidth() < 32; // registers of 32 bits are exchanged
  if (isNarrow)
    value = arith::ExtUIOp::create(*this, loc, getI32Type(), arith::BitcastOp::create(*this, loc, bits, value));
  value = gpu::ShuffleOp::create(*this, loc, value, distance, warpSize, gpu::ShuffleMode::XOR).getShuffleResult();
  if (isNarrow)
    value = arith::BitcastOp::create(*this, loc, type, arith::TruncIOp::create(*this, loc, bits, value));
  return value;
}

Value FragmentBuilder::combineRow(Value value, function_ref<Value(Value, Value)> combine) {
  for (int32_t distance : {1, 2})
    value = combine(value, exchange(value, distance));
  return value;
}
