//===- GpuKernel.cpp - a kernel whose lanes are threads ------------------------------===//

#include "pfcn/Codegen/GpuKernel.h"

using namespace mlir;
using namespace mlir::pfcn;

void GpuKernel::beginArguments(int level) {
  threads.setCooperation(/*wholeBlock=*/level == 0);
  if (level == 1)
    threads.syncWarp(); // the last round's readers are done
}

void GpuKernel::finishArguments(int level) {
  if (level == 0)
    threads.syncBlock();
  else
    threads.syncWarp();
}

/// What only depends on the tile is brought in once for the block, the rest by each warp for itself.
void GpuKernel::placeTile(Buffer &tile, Type element, int64_t size, int level) {
  if (level == 0)
    return placeScratch(tile, element, size);
  placeScratch(tile, element, size * warps);
  tile.offset = builder.mul(threads.getWarp(), builder.constant(size));
}

/// Threads that read one address at a time waste most of each access; together they read in full width.
bool GpuKernel::stagesUniform(Value value) {
  int64_t size;
  getScratchStrides(value, /*isTile=*/true, size);
  int64_t bytes = cast<RankedTensorType>(value.getType()).getElementTypeBitWidth() / 8;
  return size > 1 && scratchBytes + size * bytes * warps <= options.maxScratch / 2;
}

void GpuKernel::stage(const Buffer &source, OpFoldResult from, const Buffer &scratch, OpFoldResult to, int64_t count) {
  threads.stage(source, from, scratch, to, count);
}
