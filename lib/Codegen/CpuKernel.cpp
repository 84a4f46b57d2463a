//===- CpuKernel.cpp - the frame of a kernel on the CPU -------------------------------===//

#include "pfcn/Codegen/CpuKernel.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/Support/CheckedArithmetic.h"

using namespace mlir;
using namespace mlir::pfcn;

/// Tensors that pfcn itself allocates are contiguous; of what a caller brings, only that the
/// innermost dimension is.
static bool isContiguous(Value whole) {
  return whole.getDefiningOp<ParameterStackOp>() || whole.getDefiningOp<EmptyOp>() || whole.getDefiningOp<ZerosOp>() ||
         whole.getDefiningOp<LaunchOp>() || whole.getDefiningOp<KernelOp>();
}

static SmallVector<int64_t> getStrides(Value whole) {
  auto type = cast<RankedTensorType>(whole.getType());
  SmallVector<int64_t> strides(type.getRank(), ShapedType::kDynamic);
  int64_t stride = 1;
  for (int64_t dim = type.getRank() - 1; dim >= 0; --dim) {
    strides[dim] = stride;
    if (!isContiguous(whole) || type.isDynamicDim(dim))
      break;
    std::optional<int64_t> next = llvm::checkedMul(stride, type.getDimSize(dim));
    if (!next)
      break;
    stride = *next;
  }
  return strides;
}

/// torch keeps a bool in a byte.
static Type getStorageType(Type element) {
  return element.isInteger(1) ? IntegerType::get(element.getContext(), 8) : element;
}

/// The memref of a tensor under an access: the instance dimension first, unless it is shared.
MemRefType mlir::pfcn::getMemRefType(Value whole, AccessAttr access, int64_t count) {
  RankedTensorType type = access.getBatchedType(cast<RankedTensorType>(whole.getType()), count);
  SmallVector<int64_t> strides = getStrides(whole);
  if (!access.isShared()) {
    int64_t along = strides[access.getDim()];
    int64_t stride = ShapedType::isDynamic(along) ? along : along * access.getStride();
    if (access.isSelect())
      strides.erase(strides.begin() + access.getDim());
    strides.insert(strides.begin(), stride);
  }
  auto layout = StridedLayoutAttr::get(type.getContext(), ShapedType::kDynamic, strides);
  return MemRefType::get(type.getShape(), getStorageType(type.getElementType()), layout);
}

void CpuKernel::createFunction() {
  MLIRContext *context = kernel.getContext();
  int64_t count = kernel.getCount();
  SmallVector<Type> types(2, builder.getIndexType());
  for (auto [i, input] : llvm::enumerate(kernel.getInputs())) {
    bool packed = options.packWeights && schedule.lanesAreInstances() && schedule.lanes > 1 && isPackable(kernel, i);
    packedLanes.push_back(packed ? schedule.lanes : 0);
    auto whole = cast<RankedTensorType>(input.getType());
    if (packedLanes.back())
      types.push_back(MemRefType::get({schedule.getTiles(count), whole.getNumElements() / count, schedule.lanes},
                                      getStorageType(whole.getElementType())));
    else
      types.push_back(getMemRefType(input, kernel.getInputAccess(i), count));
  }
  for (auto [i, init] : llvm::enumerate(kernel.getInits()))
    types.push_back(getMemRefType(init, kernel.getInitAccess(i), count));
  function = func::FuncOp::create(builder, builder.getLoc(), kernel.getName(), FunctionType::get(context, types, {}));
  function->setAttr(LLVM::LLVMDialect::getEmitCWrapperAttrName(), builder.getUnitAttr());
  builder.setInsertionPointToStart(function.addEntryBlock());
  auto end = func::ReturnOp::create(builder, builder.getLoc());
  builder.setInsertionPoint(end);

  // The sizes of what is walked outside of the ops, from whichever argument has them.
  outerSizes[schedule.instanceClass] = builder.constant(count);
  auto collectSizes = [&](Value argument, Value bodyValue) {
    int64_t tensor = cast<BlockArgument>(argument).getArgNumber() - 2;
    for (int64_t dim = 0; dim < cast<RankedTensorType>(bodyValue.getType()).getRank(); ++dim) {
      int cls = dims.getClass(bodyValue, dim);
      if (!schedule.isOuter(cls) && cls != schedule.blockedClass)
        continue;
      if (cast<MemRefType>(argument.getType()).isDynamicDim(dim))
        dynamicSizes[cls].append({tensor, dim});
      if (outerSizes.count(cls))
        continue;
      int64_t size = cls == schedule.blockedClass ? schedule.blockedSize : dims.getSize(cls);
      if (ShapedType::isDynamic(size))
        outerSizes[cls] = memref::DimOp::create(builder, builder.getLoc(), argument, dim).getResult();
      else
        outerSizes[cls] = builder.constant(size);
    }
  };
  unsigned next = 2;
  for (BlockArgument argument : body.getArguments())
    collectSizes(function.getArgument(next++), argument);
  for (Value value : kernel.getYielded())
    collectSizes(function.getArgument(next++), value);
}

/// An argument of the function as a buffer: a flat memref, and how far each dimension steps in it.
Buffer CpuKernel::viewArgument(Value argument, Value bodyValue, int64_t packed) {
  Location loc = builder.getLoc();
  auto type = cast<MemRefType>(argument.getType());
  auto metadata = memref::ExtractStridedMetadataOp::create(builder, loc, argument);
  auto flat = MemRefType::get({std::numeric_limits<int32_t>::max()}, type.getElementType());
  Buffer buffer;
  buffer.isGlobal = true;
  buffer.memory = memref::ReinterpretCastOp::create(builder, loc, flat, metadata.getBaseBuffer(), builder.constant(0),
                                                    ArrayRef<OpFoldResult>{builder.constant(flat.getDimSize(0))},
                                                    ArrayRef<OpFoldResult>{builder.constant(1)});
  buffer.offset = metadata.getConstifiedMixedOffset();
  if (packed) {
    // [tile, element, lane]
    buffer.perLane = true;
    int64_t stride = packed;
    auto shape = cast<RankedTensorType>(bodyValue.getType()).getShape();
    for (int64_t size : llvm::reverse(shape)) {
      buffer.strides.insert(buffer.strides.begin(), builder.constant(stride));
      stride *= size;
    }
    buffer.strides.front() = builder.constant(0);
    buffer.offset = builder.add(buffer.offset, builder.mul(tileIndex, metadata.getConstifiedMixedStrides()[0]));
    return buffer;
  }
  constexpr int64_t cacheBytes = 1 << 20;
  auto whole = cast<RankedTensorType>(bodyValue.getType());
  buffer.isFar = whole.hasStaticShape() && whole.getNumElements() > cacheBytes * 8 / type.getElementTypeBitWidth();
  buffer.strides = metadata.getConstifiedMixedStrides();
  for (auto [dim, stride] : llvm::enumerate(buffer.strides)) {
    if (isLane(bodyValue, dim))
      buffer.perLane = schedule.lanes == 1 || isConstantIntValue(stride, 1);
  }
  return buffer;
}

ArrayAttr CpuKernel::getEqualSizes() {
  SmallVector<Attribute> groups;
  for (int cls : schedule.outerClasses)
    if (auto it = dynamicSizes.find(cls); it != dynamicSizes.end() && it->second.size() > 2)
      groups.push_back(builder.getDenseI64ArrayAttr(it->second));
  return builder.getArrayAttr(groups);
}

memref::GlobalOp mlir::pfcn::createConstantGlobal(Operation *module, Location loc, const Twine &name,
                                                  DenseElementsAttr elements) {
  Type element = getStorageType(elements.getElementType());
  if (element != elements.getElementType())
    elements = elements.mapValues(element, [](const APInt &value) { return value.zext(8); });
  elements = elements.reshape(RankedTensorType::get({elements.getNumElements()}, element));
  OpBuilder atEnd = OpBuilder::atBlockEnd(&module->getRegion(0).front());
  auto global = memref::GlobalOp::create(atEnd, loc, name.str(), atEnd.getStringAttr("private"),
                                         MemRefType::get({elements.getNumElements()}, element), elements,
                                         /*constant=*/true, /*alignment=*/atEnd.getI64IntegerAttr(64));
  SymbolTable(module).insert(global); // renames it where the name is taken
  return global;
}

Value CpuKernel::placeConstant(DenseElementsAttr elements) {
  memref::GlobalOp &global = constants[elements];
  if (!global)
    global = createConstantGlobal(function->getParentOfType<ModuleOp>(), builder.getLoc(),
                                  kernel.getName() + "_constant", elements);
  return memref::GetGlobalOp::create(builder, builder.getLoc(), global.getType(), global.getSymName());
}

void CpuKernel::erase() {
  function.erase();
  for (auto &[elements, global] : constants)
    global.erase();
}

void CpuKernel::moveScratchOffStack() {
  constexpr int64_t mostOnStack = 512 << 10, small = 4 << 10;
  auto countBytes = [](memref::AllocaOp op) {
    return op.getType().getNumElements() * std::max<int64_t>(1, op.getType().getElementTypeBitWidth() / 8);
  };
  SmallVector<memref::AllocaOp> large;
  int64_t bytes = 0; // of both variants of the tiles, where there are two
  for (auto op : function.front().getOps<memref::AllocaOp>()) {
    bytes += countBytes(op);
    if (countBytes(op) > small)
      large.push_back(op);
  }
  if (bytes <= mostOnStack)
    return;
  for (memref::AllocaOp op : large) {
    OpBuilder at(op);
    auto heap = memref::AllocOp::create(at, op.getLoc(), op.getType(), op.getAlignmentAttr());
    op.replaceAllUsesWith(heap.getResult());
    op.erase();
    at.setInsertionPoint(function.front().getTerminator());
    memref::DeallocOp::create(at, heap.getLoc(), heap);
  }
}

void CpuKernel::setInsertionPointToScratch() { builder.setInsertionPointToStart(&function.front()); }

/// The last vector of a dimension starts so that it ends with it.
OpFoldResult CpuKernel::placeLanes(OpFoldResult start, OpFoldResult size) {
  std::optional<int64_t> known = getConstantIntValue(size);
  if (schedule.lanes == 1 || (known && *known % schedule.lanes == 0))
    return start;
  Value last = builder.toValue(builder.add(size, builder.constant(-schedule.lanes)));
  return arith::MinSIOp::create(builder, builder.getLoc(), builder.toValue(start), last).getResult();
}

void CpuKernel::walkOuter(size_t depth, OpFoldResult size, int64_t step, function_ref<void(OpFoldResult)> body) {
  if (depth != 0 || schedule.parts == 1)
    return builder.loop(size, step, body);
  OpFoldResult part = builder.constant(*getConstantIntValue(size) / schedule.parts);
  builder.loop(part, step, [&](OpFoldResult index) { body(builder.add(partStart, index)); });
}

void CpuKernel::emitTileLoop() {
  auto loop = scf::ForOp::create(builder, builder.getLoc(), function.getArgument(0), function.getArgument(1),
                                 builder.toValue(builder.constant(1)));
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(loop.getBody());
  tileIndex = loop.getInductionVar();
  if (schedule.parts > 1) {
    Value parts = builder.toValue(builder.constant(schedule.parts)), index = loop.getInductionVar();
    tileIndex = arith::DivUIOp::create(builder, builder.getLoc(), index, parts).getResult();
    Value part = arith::RemUIOp::create(builder, builder.getLoc(), index, parts);
    int64_t size = *getConstantIntValue(outerSizes.lookup(schedule.outerClasses.front()));
    partStart = builder.mul(part, builder.constant(size / schedule.parts));
  }
  SmallVector<Buffer> inputs, results;
  unsigned next = 2;
  for (BlockArgument argument : body.getArguments())
    inputs.push_back(viewArgument(function.getArgument(next++), argument, packedLanes[argument.getArgNumber()]));
  for (Value value : kernel.getYielded())
    results.push_back(viewArgument(function.getArgument(next++), value, /*packed=*/0));
  setArguments(inputs, results);
  emitTile();
}

void CpuKernel::emitTiles() {
  Location loc = builder.getLoc();
  if (schedule.opLanes)
    return emitTileLoop();
  OpFoldResult laneSize = outerSizes.lookup(schedule.laneClass);
  if (getConstantIntValue(laneSize))
    return emitTileLoop();
  // Too few elements for one vector: the same tiles, element by element.
  Value enough = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::sge, builder.toValue(laneSize),
                                       builder.toValue(builder.constant(schedule.lanes)));
  auto variants = scf::IfOp::create(builder, loc, enough, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(variants.thenBlock());
  emitTileLoop();
  builder.setInsertionPointToStart(variants.elseBlock());
  schedule.lanes = 1;
  builder.setLanes(1);
  emitTileLoop();
}
