//===- KernelEmitter.cpp - one kernel as one function ------------------------------===//
//
// The function's frame: its arguments as buffers, the loops over tiles and shared dimensions, and the
// order of the ops. The ops themselves are in EmitOps.cpp.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Codegen/KernelEmitter.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

using namespace mlir;
using namespace mlir::pfcn;

//===----------------------------------------------------------------------------===//
// Arguments
//===----------------------------------------------------------------------------===//

/// Tensors that pfcn itself allocates are contiguous; of what a caller brings, only that the
/// innermost dimension is.
static bool isContiguous(Value whole) {
  return whole.getDefiningOp<ParameterStackOp>() || whole.getDefiningOp<EmptyOp>() ||
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
    stride *= type.getDimSize(dim);
  }
  return strides;
}

/// The memref of a tensor under an access: the instance dimension first, unless it is shared.
static MemRefType getMemRefType(Value whole, AccessAttr access, int64_t count) {
  RankedTensorType type = access.getBatchedType(cast<RankedTensorType>(whole.getType()), count);
  SmallVector<int64_t> strides = getStrides(whole);
  if (!access.isShared()) {
    int64_t along = strides[access.getDim()];
    int64_t stride = ShapedType::isDynamic(along) ? along : along * access.getStride();
    if (access.isSelect())
      strides.erase(strides.begin() + access.getDim());
    strides.insert(strides.begin(), stride);
  }
  Type element = type.getElementType();
  if (element.isInteger(1)) // torch keeps a bool in a byte
    element = IntegerType::get(type.getContext(), 8);
  auto layout = StridedLayoutAttr::get(type.getContext(), ShapedType::kDynamic, strides);
  return MemRefType::get(type.getShape(), element, layout);
}

void KernelEmitter::createFunction() {
  MLIRContext *context = kernel.getContext();
  int64_t count = kernel.getCount();
  SmallVector<Type> types(2, builder.getIndexType());
  for (auto [i, input] : llvm::enumerate(kernel.getInputs())) {
    bool packed = options.packWeights && schedule.lanesAreInstances() && schedule.lanes > 1 && isPackable(kernel, i);
    packedLanes.push_back(packed ? schedule.lanes : 0);
    auto whole = cast<RankedTensorType>(input.getType());
    if (packedLanes.back())
      types.push_back(MemRefType::get({schedule.getTiles(count), whole.getNumElements() / count, schedule.lanes},
                                      whole.getElementType()));
    else
      types.push_back(getMemRefType(input, kernel.getInputAccess(i), count));
  }
  for (auto [i, init] : llvm::enumerate(kernel.getInits()))
    types.push_back(getMemRefType(init, kernel.getInitAccess(i), count));
  function = func::FuncOp::create(builder, builder.getLoc(), kernel.getName(), FunctionType::get(context, types, {}));
  function->setAttr(LLVM::LLVMDialect::getEmitCWrapperAttrName(), builder.getUnitAttr());
  builder.setInsertionPointToStart(function.addEntryBlock());
}

/// An argument of the function as a buffer: a flat memref, and how far each dimension steps in it.
Buffer KernelEmitter::viewArgument(Value argument, Value bodyValue, int64_t packed) {
  Location loc = builder.getLoc();
  auto type = cast<MemRefType>(argument.getType());
  auto metadata = memref::ExtractStridedMetadataOp::create(builder, loc, argument);
  auto flat = MemRefType::get({std::numeric_limits<int32_t>::max()}, type.getElementType());
  Buffer buffer;
  buffer.memory =
      memref::ReinterpretCastOp::create(builder, loc, flat, metadata.getBaseBuffer(), builder.constant(0),
                                        ArrayRef<OpFoldResult>{builder.constant(flat.getDimSize(0))},
                                        ArrayRef<OpFoldResult>{builder.constant(1)});
  buffer.offset = metadata.getConstifiedMixedOffset();
  if (packed) {
    // [tile, element, lane]; the tile is added where the buffer is first used.
    buffer.isVector = true;
    int64_t stride = packed;
    auto shape = cast<RankedTensorType>(bodyValue.getType()).getShape();
    for (int64_t size : llvm::reverse(shape)) {
      buffer.strides.insert(buffer.strides.begin(), builder.constant(stride));
      stride *= size;
    }
    buffer.strides.front() = builder.constant(0);
    return buffer;
  }
  buffer.strides = metadata.getConstifiedMixedStrides();
  for (auto [dim, stride] : llvm::enumerate(buffer.strides)) {
    if (isLane(bodyValue, dim))
      buffer.isVector = schedule.lanes == 1 || isConstantIntValue(stride, 1);
    int cls = dims.getClass(bodyValue, dim);
    if (schedule.isOuter(cls) && !outerSizes.count(cls)) {
      int64_t size = dims.getSize(cls);
      outerSizes[cls] = ShapedType::isDynamic(size)
                            ? OpFoldResult(memref::DimOp::create(builder, loc, argument, dim).getResult())
                            : builder.constant(size);
    }
  }
  return buffer;
}

/// Brings an argument into the form in which the ops of the body read it: where its lanes are
/// no neighbours, a tile of it is transposed into scratch.
void KernelEmitter::emitArgument(BlockArgument argument) {
  Buffer &raw = buffers[argument];
  if (packedLanes[argument.getArgNumber()]) {
    auto type = cast<RankedTensorType>(argument.getType());
    OpFoldResult tileSize = builder.constant(type.getNumElements() / kernel.getCount() * schedule.lanes);
    raw.offset = builder.add(raw.offset, builder.mul(tileIndex, tileSize));
    return;
  }
  if (!hasLanes(argument) || raw.isVector)
    return;
  Buffer source = raw;
  raw = allocate(argument);
  emitRows(argument, source, raw, [&](OpFoldResult from, OpFoldResult to, OpFoldResult laneStride, int64_t size) {
    builder.pack(source.memory, from, laneStride, raw.memory, to, size);
  });
}

/// Walks what one lane has of a value in runs that are contiguous in `rows`.
void KernelEmitter::emitRows(Value value, const Buffer &rows, const Buffer &scratch,
                             function_ref<void(OpFoldResult, OpFoldResult, OpFoldResult, int64_t)> body) {
  SmallVector<int64_t> shape = getInnerShape(value);
  SmallVector<OpFoldResult> innerStrides;
  OpFoldResult laneStride;
  for (auto [dim, stride] : llvm::enumerate(rows.strides)) {
    if (isLane(value, dim))
      laneStride = stride;
    if (!schedule.isOuter(dims.getClass(value, dim)))
      innerStrides.push_back(stride);
  }
  int64_t run = 1;
  SmallVector<int64_t> prefix(shape);
  while (!prefix.empty() && (prefix.back() == 1 || isConstantIntValue(innerStrides[prefix.size() - 1], run)))
    run *= prefix.pop_back_val();
  builder.loops(prefix, [&](ArrayRef<OpFoldResult> outer) {
    SmallVector<OpFoldResult> inner(outer);
    inner.resize(shape.size(), builder.constant(0));
    SmallVector<OpFoldResult> indices = getIndices(value, inner);
    body(builder.getAddress(rows, indices), builder.getAddress(scratch, indices), laneStride, run);
  });
}

/// Stores a result of the body, unless the op that computed it has already done so.
void KernelEmitter::emitYield(unsigned result) {
  Value value = kernel.getYielded()[result];
  Buffer &output = outputs[result];
  if (directOutputs.count(value))
    return;
  if (output.isVector)
    return emitCopy(buffers[value], value, output);
  Buffer source = makeContiguous(value);
  emitRows(value, output, source, [&](OpFoldResult to, OpFoldResult from, OpFoldResult laneStride, int64_t size) {
    builder.unpack(source.memory, from, output.memory, to, laneStride, size);
  });
}

//===----------------------------------------------------------------------------===//
// What lies where
//===----------------------------------------------------------------------------===//

bool KernelEmitter::hasLanes(Value value) {
  int64_t rank = cast<RankedTensorType>(value.getType()).getRank();
  return llvm::any_of(llvm::seq<int64_t>(0, rank), [&](int64_t dim) { return isLane(value, dim); });
}

int KernelEmitter::getLevel(Value value) {
  if (!isa<RankedTensorType>(value.getType()))
    return 0;
  int64_t rank = cast<RankedTensorType>(value.getType()).getRank();
  for (int64_t dim = 0; dim < rank; ++dim)
    if (llvm::is_contained(schedule.outerClasses, dims.getClass(value, dim)))
      return 1;
  Operation *op = value.getDefiningOp();
  return op ? getLevel(op) : 0;
}

int KernelEmitter::getLevel(Operation *op) {
  auto it = levels.find(op);
  if (it != levels.end())
    return it->second;
  int level = 0;
  for (Value operand : op->getOperands())
    level = std::max(level, getLevel(operand));
  for (Value result : op->getResults())
    if (auto type = dyn_cast<RankedTensorType>(result.getType()))
      for (int64_t dim = 0; dim < type.getRank(); ++dim)
        level = std::max<int>(level, llvm::is_contained(schedule.outerClasses, dims.getClass(result, dim)));
  return levels[op] = level;
}

/// The sizes of the dimensions that the ops walk themselves.
SmallVector<int64_t> KernelEmitter::getInnerShape(Value value) {
  SmallVector<int64_t> shape;
  for (auto [dim, size] : llvm::enumerate(cast<RankedTensorType>(value.getType()).getShape())) {
    if (schedule.isOuter(dims.getClass(value, dim)))
      continue;
    if (ShapedType::isDynamic(size))
      failure = "a dynamic dimension is not shared by the whole body";
    shape.push_back(size);
  }
  return shape;
}

SmallVector<OpFoldResult> KernelEmitter::getIndices(Value value, ArrayRef<OpFoldResult> inner) {
  SmallVector<OpFoldResult> indices;
  int64_t rank = cast<RankedTensorType>(value.getType()).getRank();
  for (int64_t dim = 0; dim < rank; ++dim) {
    int cls = dims.getClass(value, dim);
    if (schedule.isOuter(cls)) {
      indices.push_back(outerIndices.lookup(cls));
    } else {
      indices.push_back(inner.front());
      inner = inner.drop_front();
    }
  }
  return indices;
}

/// Row-major strides of what one point of the outer loops has of a value, and how many elements that is.
SmallVector<OpFoldResult> KernelEmitter::getScratchStrides(Value value, int64_t &elements) {
  SmallVector<OpFoldResult> strides;
  elements = 1;
  int64_t unit = hasLanes(value) ? schedule.lanes : 1;
  auto shape = cast<RankedTensorType>(value.getType()).getShape();
  for (int64_t dim = shape.size() - 1; dim >= 0; --dim) {
    bool outer = schedule.isOuter(dims.getClass(value, dim));
    strides.insert(strides.begin(), builder.constant(outer ? 0 : elements * unit));
    if (outer)
      continue;
    if (ShapedType::isDynamic(shape[dim]))
      failure = "a dynamic dimension is not shared by the whole body";
    elements *= std::max<int64_t>(shape[dim], 1);
  }
  return strides;
}

/// Scratch for what one point of the outer loops has of a value.
Buffer KernelEmitter::allocate(Value value) {
  Buffer buffer;
  int64_t elements;
  buffer.isVector = hasLanes(value);
  buffer.offset = builder.constant(0);
  buffer.strides = getScratchStrides(value, elements);
  Type element = cast<RankedTensorType>(value.getType()).getElementType();
  scratchBytes += elements * (buffer.isVector ? schedule.lanes : 1) *
                  std::max<int64_t>(1, element.getIntOrFloatBitWidth() / 8);
  if (scratchBytes > options.maxScratch)
    failure = "a tile needs more than " + std::to_string(options.maxScratch) + " bytes of scratch";
  if (!failure.empty())
    elements = 1;
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(&function.front());
  buffer.memory = builder.allocate(element, elements, buffer.isVector);
  return buffer;
}

//===----------------------------------------------------------------------------===//
// The loops
//===----------------------------------------------------------------------------===//

/// The last vector of a dimension starts so that it ends with it.
OpFoldResult KernelEmitter::clampToLanes(OpFoldResult start, OpFoldResult size) {
  std::optional<int64_t> known = getConstantIntValue(size);
  if (schedule.lanes == 1 || (known && *known % schedule.lanes == 0))
    return start;
  Value last = builder.toValue(builder.add(size, builder.constant(-schedule.lanes)));
  return arith::MinSIOp::create(builder, builder.getLoc(), builder.toValue(start), last).getResult();
}

void KernelEmitter::emitLevel(int level) {
  for (BlockArgument argument : body.getArguments())
    if (!argument.use_empty() && getLevel(argument) == level)
      emitArgument(argument);
  for (Operation &op : body.without_terminator())
    if (failure.empty() && getLevel(&op) == level && !emitted.contains(&op))
      emitOp(&op);
}

void KernelEmitter::emitOuterLoops(size_t depth) {
  if (depth == schedule.outerClasses.size()) {
    emitLevel(1);
    for (unsigned i = 0; i < outputs.size() && failure.empty(); ++i)
      emitYield(i);
    return;
  }
  int cls = schedule.outerClasses[depth];
  OpFoldResult size = outerSizes.lookup(cls);
  bool lanes = cls == schedule.laneClass;
  builder.loop(size, lanes ? schedule.lanes : 1, [&](OpFoldResult index) {
    outerIndices[cls] = lanes ? clampToLanes(index, size) : index;
    emitOuterLoops(depth + 1);
  });
}

/// The arguments as buffers, anew for each variant of the kernel.
void KernelEmitter::viewArguments() {
  buffers.clear();
  outputs.clear();
  directOutputs.clear();
  emitted.clear();
  levels.clear();
  scalars.clear();
  scratchBytes = 0;
  unsigned firstInput = 2, firstOutput = 2 + kernel.getInputs().size();
  for (BlockArgument argument : body.getArguments())
    buffers[argument] = viewArgument(function.getArgument(firstInput + argument.getArgNumber()), argument,
                                     packedLanes[argument.getArgNumber()]);
  for (auto [i, value] : llvm::enumerate(kernel.getYielded())) {
    outputs.push_back(viewArgument(function.getArgument(firstOutput + i), value, /*packed=*/0));
    bool once = llvm::count(kernel.getYielded(), value) == 1;
    if (outputs.back().isVector && once && value.hasOneUse() && value.getDefiningOp<linalg::GenericOp>())
      directOutputs[value] = i;
  }
}

void KernelEmitter::emitTiles() {
  auto loop = scf::ForOp::create(builder, builder.getLoc(), function.getArgument(0), function.getArgument(1),
                                 builder.toValue(builder.constant(1)));
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(loop.getBody());
  tileIndex = loop.getInductionVar();
  if (schedule.lanesAreInstances()) {
    OpFoldResult start = builder.mul(tileIndex, builder.constant(schedule.lanes));
    outerIndices[schedule.instanceClass] = clampToLanes(start, builder.constant(kernel.getCount()));
  } else {
    outerIndices[schedule.instanceClass] = tileIndex;
  }
  emitLevel(0);
  emitOuterLoops(0);
}

FailureOr<func::FuncOp> KernelEmitter::emit(std::string &reason) {
  createFunction();
  Location loc = builder.getLoc();
  outerSizes[schedule.instanceClass] = builder.constant(kernel.getCount());
  viewArguments();
  OpFoldResult laneSize = outerSizes.lookup(schedule.laneClass);
  if (getConstantIntValue(laneSize)) {
    emitTiles();
  } else {
    // Too few elements for one vector: the same tiles, element by element.
    Value enough = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::sge, builder.toValue(laneSize),
                                         builder.toValue(builder.constant(schedule.lanes)));
    auto variants = scf::IfOp::create(builder, loc, enough, /*withElseRegion=*/true);
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(variants.thenBlock());
    emitTiles();
    builder.setInsertionPointToStart(variants.elseBlock());
    schedule.lanes = 1;
    builder.setLanes(1);
    viewArguments();
    emitTiles();
  }
  func::ReturnOp::create(builder, loc);
  if (!failure.empty()) {
    reason = failure;
    return mlir::failure();
  }
  return function;
}
