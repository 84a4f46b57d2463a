//===- ThreadBuilder.cpp - lanes as the threads of a warp ------------------------------===//

#include "pfcn/Codegen/ThreadBuilder.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::pfcn;

void ThreadBuilder::enter(gpu::GPUFuncOp entered) {
  function = entered;
  thread = gpu::ThreadIdOp::create(*this, loc, gpu::Dimension::x);
  warp = gpu::ThreadIdOp::create(*this, loc, gpu::Dimension::y);
  inBlock = toValue(add(mul(warp, constant(warpSize)), thread));
  if (sharesLanes) {
    ownLane = arith::RemUIOp::create(*this, loc, inBlock, toValue(constant(lanes)));
    group = arith::DivUIOp::create(*this, loc, inBlock, toValue(constant(lanes)));
    column = ownLane;
  } else {
    ownLane = thread;
    column = inBlock;
  }
  setCooperation(/*wholeBlock=*/true);
}

void ThreadBuilder::setActive(OpFoldResult count) {
  active = count;
  if (getConstantIntValue(active) == (sharesLanes ? lanes : warpSize))
    lane = ownLane;
  else
    lane = arith::MinSIOp::create(*this, loc, ownLane, toValue(add(active, constant(-1))));
}

void ThreadBuilder::setCooperation(bool wholeBlock) {
  wholeBlock |= sharesLanes;
  worker = wholeBlock ? inBlock : thread;
  workers = wholeBlock ? warps * warpSize : warpSize;
}

/// A row of a tile is one element longer than its lanes, so that neighbours in a column lie in different
/// banks of shared memory.
int64_t ThreadBuilder::getLanePitch(bool isTile) { return isTile || sharesLanes ? lanes + 1 : warps * warpSize; }

/// LLVM reads neighbouring elements in one access of up to 16 bytes, and some beside them where that makes it a whole
/// one: also past the last of them.
int64_t ThreadBuilder::getAllocated(Type element, int64_t size) {
  return llvm::alignTo(size, accessBytes * 8 / element.getIntOrFloatBitWidth());
}

Value ThreadBuilder::allocate(Type element, int64_t size) {
  auto space = gpu::AddressSpaceAttr::get(getContext(), gpu::AddressSpace::Workgroup);
  auto type = MemRefType::get({getAllocated(element, size)}, element, MemRefLayoutAttrInterface(), space);
  unsigned index = function.getNumWorkgroupAttributions();
  Value memory = function.addWorkgroupAttribution(type, loc);
  // Left out, LLVM takes an array to be aligned to 16 bytes where it makes accesses of it, and writes the alignment of
  // an element.
  function.setWorkgroupAttributionAttr(index, LLVM::LLVMDialect::getAlignAttrName(), getI64IntegerAttr(accessBytes));
  return memory;
}

Value ThreadBuilder::loadLanes(const Buffer &buffer, OpFoldResult address) {
  OpFoldResult own = buffer.isTile || buffer.isGlobal ? lane : column;
  return memref::LoadOp::create(*this, loc, buffer.memory, toValue(add(address, own)));
}

void ThreadBuilder::storeLanes(Value value, const Buffer &buffer, OpFoldResult address) {
  if (!buffer.isGlobal) {
    memref::StoreOp::create(*this, loc, value, buffer.memory, toValue(add(address, column)));
    return;
  }
  Value holds = arith::CmpIOp::create(*this, loc, arith::CmpIPredicate::slt, ownLane, toValue(active));
  auto guarded = scf::IfOp::create(*this, loc, holds, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(*this);
  setInsertionPointToStart(guarded.thenBlock());
  memref::StoreOp::create(*this, loc, value, buffer.memory, toValue(add(address, ownLane)));
}

//===----------------------------------------------------------------------------===//
// What threads do together
//===----------------------------------------------------------------------------===//

void ThreadBuilder::syncBlock() { gpu::BarrierOp::create(*this, loc); }

void ThreadBuilder::syncWarp() {
  Value everyone = arith::ConstantOp::create(*this, loc, getI32IntegerAttr(-1));
  NVVM::SyncWarpOp::create(*this, loc, everyone);
}

void ThreadBuilder::syncGroups() {
  if (sharesLanes)
    syncBlock();
  else
    syncWarp();
}

void ThreadBuilder::share(OpFoldResult total, int64_t width, function_ref<void(Value)> body) {
  Value first = toValue(mul(worker, constant(width)));
  auto loop = scf::ForOp::create(*this, loc, first, toValue(total), toValue(constant(workers * width)));
  OpBuilder::InsertionGuard guard(*this);
  setInsertionPointToStart(loop.getBody());
  body(loop.getInductionVar());
}

/// Moves element `by` to the front, and so on around, by selections.
void ThreadBuilder::rotate(MutableArrayRef<Value> elements, Value by) {
  int64_t size = elements.size();
  for (int64_t step = 1; step < size; step *= 2) {
    Value bit = arith::AndIOp::create(*this, loc, by, toValue(constant(step)));
    Value isSet = arith::CmpIOp::create(*this, loc, arith::CmpIPredicate::ne, bit, toValue(constant(0)));
    SmallVector<Value> before(elements);
    for (int64_t i = 0; i < size; ++i)
      elements[i] = arith::SelectOp::create(*this, loc, isSet, before[(i + step) % size], before[i]);
  }
}

void ThreadBuilder::shareLoads(const Buffer &source, OpFoldResult address, OpFoldResult total,
                               function_ref<void(Value, Value)> store) {
  Type element = cast<MemRefType>(source.memory.getType()).getElementType();
  int64_t bytes = element.getIntOrFloatBitWidth() / 8, width = 16 / bytes;
  auto oneByOne = [&](OpFoldResult begin) {
    Value rest = arith::SubIOp::create(*this, loc, toValue(total), toValue(begin));
    share(rest, 1, [&](Value index) {
      Value position = toValue(add(begin, index));
      store(memref::LoadOp::create(*this, loc, source.memory, toValue(add(address, position))), position);
    });
  };
  Value base = memref::ExtractAlignedPointerAsIndexOp::create(*this, loc, source.memory);
  Value begin = toValue(add(base, mul(address, constant(bytes))));
  Value low = arith::AndIOp::create(*this, loc, begin, toValue(constant(15)));
  Value aligned = arith::CmpIOp::create(*this, loc, arith::CmpIPredicate::eq, low, toValue(constant(0)));
  auto variants = scf::IfOp::create(*this, loc, aligned, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(*this);
  setInsertionPointToStart(variants.thenBlock());
  Value wide = arith::AndIOp::create(*this, loc, toValue(total), toValue(constant(-width)));
  share(wide, width, [&](Value index) {
    Value values = vector::LoadOp::create(*this, loc, VectorType::get(width, element), source.memory,
                                          toValue(add(address, index)), /*nontemporal=*/false, llvm::MaybeAlign(16));
    SmallVector<Value> elements;
    for (int64_t i = 0; i < width; ++i)
      elements.push_back(vector::ExtractOp::create(*this, loc, values, ArrayRef<int64_t>{i}));
    // Threads whose elements would go to the same banks of shared memory store them in another order.
    Value turn = arith::DivUIOp::create(*this, loc, thread, toValue(constant(warpSize / width)));
    rotate(elements, turn);
    for (int64_t i = 0; i < width; ++i) {
      Value which = toValue(add(turn, constant(i)));
      which = arith::AndIOp::create(*this, loc, which, toValue(constant(width - 1)));
      store(elements[i], toValue(add(index, which)));
    }
  });
  std::optional<int64_t> known = getConstantIntValue(total);
  if (!known || *known % width != 0)
    oneByOne(wide);
  setInsertionPointToStart(variants.elseBlock());
  oneByOne(constant(0));
}

void ThreadBuilder::pack(const Buffer &rows, OpFoldResult address, OpFoldResult laneStride, const Buffer &scratch,
                         OpFoldResult scratchAddress, int64_t count) {
  auto put = [&](Value value, Value position) {
    Value size = toValue(constant(count));
    Value row = arith::DivUIOp::create(*this, loc, position, size);
    Value element = arith::RemUIOp::create(*this, loc, position, size);
    OpFoldResult to = add(add(scratchAddress, mul(element, constant(getLanePitch(/*isTile=*/true)))), row);
    memref::StoreOp::create(*this, loc, value, scratch.memory, toValue(to));
  };
  OpFoldResult total = mul(active, constant(count));
  if (isConstantIntValue(laneStride, count))
    return shareLoads(rows, address, total, put);
  share(total, 1, [&](Value position) {
    Value size = toValue(constant(count));
    Value row = arith::DivUIOp::create(*this, loc, position, size);
    Value element = arith::RemUIOp::create(*this, loc, position, size);
    Value from = toValue(add(add(address, mul(row, laneStride)), element));
    put(memref::LoadOp::create(*this, loc, rows.memory, from), position);
  });
}

void ThreadBuilder::unpack(const Buffer &scratch, OpFoldResult scratchAddress, const Buffer &rows, OpFoldResult address,
                           OpFoldResult laneStride, int64_t count) {
  syncGroups();
  OpFoldResult firstColumn = sharesLanes ? constant(0) : mul(warp, constant(warpSize));
  share(mul(active, constant(count)), 1, [&](Value position) {
    Value size = toValue(constant(count));
    Value row = arith::DivUIOp::create(*this, loc, position, size);
    Value element = arith::RemUIOp::create(*this, loc, position, size);
    OpFoldResult from = add(scratchAddress, mul(element, constant(getLanePitch(/*isTile=*/false))));
    Value value = memref::LoadOp::create(*this, loc, scratch.memory, toValue(add(add(from, firstColumn), row)));
    Value to = toValue(add(add(address, mul(row, laneStride)), element));
    memref::StoreOp::create(*this, loc, value, rows.memory, to);
  });
}

void ThreadBuilder::stage(const Buffer &source, OpFoldResult address, const Buffer &scratch,
                          OpFoldResult scratchAddress, int64_t count) {
  shareLoads(source, address, constant(count), [&](Value value, Value position) {
    memref::StoreOp::create(*this, loc, value, scratch.memory, toValue(add(scratchAddress, position)));
  });
}
