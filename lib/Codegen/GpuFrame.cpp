//===- GpuFrame.cpp - the frame of a kernel on a GPU ----------------------------------===//

#include "pfcn/Codegen/GpuFrame.h"

#include "pfcn/Codegen/CpuKernel.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

using namespace mlir;
using namespace mlir::pfcn;

//===----------------------------------------------------------------------------===//
// Parameters
//===----------------------------------------------------------------------------===//

void GpuFrame::createFunction() {
  int64_t count = kernel.getCount();
  SmallVector<MemRefType> tensors;
  for (auto [i, input] : llvm::enumerate(kernel.getInputs()))
    tensors.push_back(getMemRefType(input, kernel.getInputAccess(i), count));
  for (auto [i, init] : llvm::enumerate(kernel.getInits()))
    tensors.push_back(getMemRefType(init, kernel.getInitAccess(i), count));

  // [tensor, 0] its base; [tensor, 1, dim] a size; [tensor, 2, dim] a stride.
  SmallVector<Type> types;
  SmallVector<Attribute> parameters;
  auto describe = [&](ArrayRef<int64_t> what) { parameters.push_back(builder.getDenseI64ArrayAttr(what)); };
  for (auto [i, type] : llvm::enumerate(tensors)) {
    int64_t tensor = i;
    types.push_back(MemRefType::get({}, type.getElementType()));
    describe({tensor, 0});
    for (int64_t dim = 0; dim < type.getRank(); ++dim)
      if (type.isDynamicDim(dim)) {
        types.push_back(builder.getIndexType());
        describe({tensor, 1, dim});
      }
    for (auto [dim, stride] : llvm::enumerate(type.getStridesAndOffset().first))
      if (ShapedType::isDynamic(stride)) {
        types.push_back(builder.getIndexType());
        describe({tensor, 2, static_cast<int64_t>(dim)});
      }
  }
  auto functionType = FunctionType::get(kernel.getContext(), types, {});
  function = gpu::GPUFuncOp::create(builder, builder.getLoc(), kernel.getName(), functionType);
  function->setAttr(gpu::GPUDialect::getKernelFuncAttrName(), builder.getUnitAttr());
  function.setKnownBlockSizeAttr(
      builder.getDenseI32ArrayAttr({ThreadBuilder::warpSize, static_cast<int32_t>(warps), 1}));
  function->setAttr("pfcn.parameters", builder.getArrayAttr(parameters));
  builder.setInsertionPointToStart(&function.getBody().front());
  builder.setInsertionPoint(gpu::ReturnOp::create(builder, builder.getLoc()));
  threads.enter(function);

  outerSizes[schedule.instanceClass] = builder.constant(count);
  unsigned next = 0, tensor = 0;
  for (BlockArgument argument : body.getArguments())
    inputs.push_back(viewTensor(tensors, tensor++, argument, next));
  for (Value value : kernel.getYielded())
    results.push_back(viewTensor(tensors, tensor++, value, next));
}

/// Ends with zeros, since LLVM may read past its last element in a whole access.
Value GpuFrame::placeConstant(DenseElementsAttr elements) {
  SmallVector<Attribute> padded(elements.getValues<Attribute>());
  padded.resize(threads.getAllocated(elements.getElementType(), padded.size()),
                builder.getZeroAttr(elements.getElementType()));
  auto type = RankedTensorType::get({static_cast<int64_t>(padded.size())}, elements.getElementType());
  elements = DenseElementsAttr::get(type, padded);
  auto module = function->getParentOfType<gpu::GPUModuleOp>();
  auto global = createConstantGlobal(module, builder.getLoc(), kernel.getName() + "_constant", elements);
  return memref::GetGlobalOp::create(builder, builder.getLoc(), global.getType(), global.getSymName());
}

ArrayAttr GpuFrame::getEqualSizes() {
  SmallVector<Attribute> groups;
  for (int cls : schedule.outerClasses)
    if (auto it = dynamicSizes.find(cls); it != dynamicSizes.end() && it->second.size() > 2)
      groups.push_back(builder.getDenseI64ArrayAttr(it->second));
  return builder.getArrayAttr(groups);
}

Buffer GpuFrame::viewTensor(ArrayRef<MemRefType> tensors, unsigned tensor, Value bodyValue, unsigned &next) {
  MemRefType type = tensors[tensor];
  Location loc = builder.getLoc();
  Buffer buffer;
  buffer.isGlobal = true;
  auto flat = MemRefType::get({std::numeric_limits<int32_t>::max()}, type.getElementType());
  buffer.memory = memref::ReinterpretCastOp::create(
      builder, loc, flat, function.getArgument(next++), builder.constant(0),
      ArrayRef<OpFoldResult>{builder.constant(flat.getDimSize(0))}, ArrayRef<OpFoldResult>{builder.constant(1)});
  buffer.offset = builder.constant(0); // the caller adds it to the pointer
  for (int64_t dim = 0; dim < type.getRank(); ++dim) {
    int64_t size = type.getDimSize(dim);
    OpFoldResult known =
        ShapedType::isDynamic(size) ? OpFoldResult(function.getArgument(next++)) : builder.constant(size);
    int cls = dims.getClass(bodyValue, dim);
    if (schedule.isOuter(cls) && ShapedType::isDynamic(size))
      dynamicSizes[cls].append({static_cast<int64_t>(tensor), dim});
    if (schedule.isOuter(cls) && (!outerSizes.count(cls) || !ShapedType::isDynamic(size)))
      outerSizes[cls] = known;
  }
  for (auto [dim, stride] : llvm::enumerate(type.getStridesAndOffset().first)) {
    buffer.strides.push_back(ShapedType::isDynamic(stride) ? OpFoldResult(function.getArgument(next++))
                                                           : builder.constant(stride));
    if (isLane(bodyValue, dim))
      buffer.perLane = isConstantIntValue(buffer.strides.back(), 1);
  }
  return buffer;
}

//===----------------------------------------------------------------------------===//
// Tiles
//===----------------------------------------------------------------------------===//

void GpuFrame::emitTiles() {
  Location loc = builder.getLoc();
  tileIndex = gpu::BlockIdOp::create(builder, loc, gpu::Dimension::x).getResult();
  setArguments(inputs, results);
  OpFoldResult size = schedule.outerClasses.empty() ? OpFoldResult() : outerSizes.lookup(schedule.outerClasses.front());
  if (!size || getConstantIntValue(size))
    return emitTile();
  // The grid is made for many points; blocks without any must not bring a tile in.
  Value chunk = builder.toValue(builder.constant(schedule.getChunk(threads.getWalkers())));
  Value all = gpu::GridDimOp::create(builder, loc, gpu::Dimension::y);
  blocks = arith::CeilDivSIOp::create(builder, loc, builder.toValue(size), chunk);
  blocks = arith::MinSIOp::create(builder, loc, blocks, all);
  Value block = gpu::BlockIdOp::create(builder, loc, gpu::Dimension::y);
  Value works = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::slt, block, blocks);
  auto guarded = scf::IfOp::create(builder, loc, works, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(guarded.thenBlock());
  emitTile();
}

/// A tile that is not full starts where it would; threads know how many lanes it has.
OpFoldResult GpuFrame::placeLanes(OpFoldResult start, OpFoldResult size) {
  std::optional<int64_t> known = getConstantIntValue(size);
  OpFoldResult active = builder.constant(schedule.lanes);
  if (!known || *known % schedule.lanes != 0) {
    Value rest = arith::SubIOp::create(builder, builder.getLoc(), builder.toValue(size), builder.toValue(start));
    active = arith::MinSIOp::create(builder, builder.getLoc(), rest, builder.toValue(active)).getResult();
  }
  threads.setActive(active);
  return start;
}

/// The warps of all blocks of a tile share the first outer dimension.
void GpuFrame::walkOuter(size_t depth, OpFoldResult size, int64_t step, function_ref<void(OpFoldResult)> body) {
  if (depth != 0)
    return builder.loop(size, step, body);
  Location loc = builder.getLoc();
  Value block = gpu::BlockIdOp::create(builder, loc, gpu::Dimension::y);
  Value all = blocks ? blocks : gpu::GridDimOp::create(builder, loc, gpu::Dimension::y).getResult();
  int64_t walkers = threads.getWalkers();
  OpFoldResult first = builder.add(builder.mul(block, builder.constant(walkers)), threads.getWalker());
  OpFoldResult stride = builder.mul(all, builder.constant(walkers * step));
  auto loop = scf::ForOp::create(builder, loc, builder.toValue(builder.mul(first, builder.constant(step))),
                                 builder.toValue(size), builder.toValue(stride));
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(loop.getBody());
  body(loop.getInductionVar());
}
