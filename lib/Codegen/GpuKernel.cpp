//===- GpuKernel.cpp - a kernel whose lanes are threads ------------------------------===//

#include "pfcn/Codegen/GpuKernel.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace mlir::pfcn;

void GpuKernel::beginArguments(int level) {
  threads.setCooperation(/*wholeBlock=*/level == 0);
  if (level == 1)
    threads.syncGroups(); // the last round's readers are done
}

void GpuKernel::finishArguments(int level) {
  if (level == 0)
    threads.syncBlock();
  else
    threads.syncGroups();
}

/// What only depends on the tile is brought in once for the block, the rest by each warp for itself.
void GpuKernel::placeTile(Buffer &tile, Type element, int64_t size, int level) {
  if (level == 0)
    return placeScratch(tile, element, size);
  placeScratch(tile, element, size * threads.getWalkers());
  tile.offset = builder.mul(threads.getWalker(), builder.constant(size));
}

/// Threads that read one address at a time waste most of each access; together they read in full width.
bool GpuKernel::stagesUniform(Value value) {
  int64_t size;
  getScratchStrides(value, /*isTile=*/true, size);
  if (schedule.sharesLanes)
    return size > 1;
  int64_t bytes = cast<RankedTensorType>(value.getType()).getElementTypeBitWidth() / 8;
  return size > 1 && scratchBytes + size * bytes * warps <= options.maxScratch / 2;
}

void GpuKernel::stage(const Buffer &source, OpFoldResult from, const Buffer &scratch, OpFoldResult to, int64_t count) {
  threads.stage(source, from, scratch, to, count);
}

//===----------------------------------------------------------------------------===//
// Threads that share a lane
//===----------------------------------------------------------------------------===//

void GpuKernel::walkShared(int64_t size, int64_t step, function_ref<void(OpFoldResult)> body) {
  if (getSharers() == 1)
    return builder.loop(builder.constant(size), step, body);
  auto constant = [&](int64_t value) { return builder.toValue(builder.constant(value)); };
  Value first = builder.toValue(builder.mul(threads.getGroup(), builder.constant(step)));
  auto loop = scf::ForOp::create(builder, builder.getLoc(), first, constant(size), constant(step * getSharers()));
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(loop.getBody());
  body(loop.getInductionVar());
}

void GpuKernel::runOnce(function_ref<void()> body) {
  if (getSharers() == 1)
    return body();
  Value isFirst = arith::CmpIOp::create(builder, builder.getLoc(), arith::CmpIPredicate::eq, threads.getGroup(),
                                        builder.toValue(builder.constant(0)));
  auto guarded = scf::IfOp::create(builder, builder.getLoc(), isFirst, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(guarded.thenBlock());
  body();
}

void GpuKernel::finishShared() {
  if (getSharers() > 1)
    threads.syncBlock();
}
