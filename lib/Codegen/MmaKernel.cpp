//===- MmaKernel.cpp - a kernel on tensor cores: tiles, memory, elementwise ops --------===//

#include "pfcn/Codegen/MmaKernel.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/IR/Matchers.h"

#include <numeric>

using namespace mlir;
using namespace mlir::pfcn;

//===----------------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------------===//

static int64_t getElementBytes(const Buffer &buffer) {
  return cast<MemRefType>(buffer.memory.getType()).getElementTypeBitWidth() / 8;
}

static bool isUnit(Value value, int64_t dim) { return cast<RankedTensorType>(value.getType()).getDimSize(dim) == 1; }

/// How many elements the known strides of a buffer, and the size of what are neighbours, are multiples of; at most 128
/// bits.
static int64_t getKnownWidth(const Buffer &buffer, Value value) {
  int64_t width = 16 / getElementBytes(buffer);
  for (auto [dim, stride] : llvm::enumerate(buffer.strides)) {
    std::optional<int64_t> known = getConstantIntValue(stride);
    int64_t size = cast<RankedTensorType>(value.getType()).getDimSize(dim);
    if (known && size != 1)
      width = std::gcd(width, *known != 1 ? *known : ShapedType::isDynamic(size) ? 1 : size);
  }
  return width;
}

/// Notes how wide the caller's tensors can be accessed if their pointers and unknown strides are aligned, and
/// computes whether they are; null where nothing can be gained.
Value MmaKernel::checkAlignment() {
  Location loc = builder.getLoc();
  Value misaligned;
  auto check = [&](OpFoldResult bytes, int64_t alignment) {
    Value mask = builder.toValue(builder.constant(alignment - 1));
    Value low = arith::AndIOp::create(builder, loc, builder.toValue(bytes), mask);
    misaligned = misaligned ? arith::OrIOp::create(builder, loc, misaligned, low).getResult() : low;
  };
  auto visit = [&](const Buffer &buffer, Value value) {
    int64_t width = getKnownWidth(buffer, value), bytes = getElementBytes(buffer);
    widths[buffer.memory] = width;
    if (width == 1)
      return;
    check(memref::ExtractAlignedPointerAsIndexOp::create(builder, loc, buffer.memory).getResult(), width * bytes);
    for (auto [dim, stride] : llvm::enumerate(buffer.strides))
      if (!getConstantIntValue(stride) && !isUnit(value, dim))
        check(builder.mul(stride, builder.constant(bytes)), width * bytes);
  };
  for (auto [buffer, argument] : llvm::zip(inputs, body.getArguments()))
    if (!argument.use_empty())
      visit(buffer, argument);
  for (auto [buffer, value] : llvm::zip(results, kernel.getYielded()))
    visit(buffer, value);
  if (!misaligned)
    return {};
  return arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::eq, misaligned,
                               builder.toValue(builder.constant(0)));
}

/// How many neighbouring features of a tensor, or of a view of it, can be accessed at once.
int64_t MmaKernel::getWidth(const Buffer &buffer, Value value, const FragmentShape &shape) {
  if (shape.features == 0 || getConstantIntValue(buffer.strides[shape.featureDim]) != 1)
    return 1;
  std::optional<int64_t> offset = getConstantIntValue(buffer.offset);
  int64_t width = std::max<int64_t>(1, widths.lookup(buffer.memory));
  width = std::gcd(width, getKnownWidth(buffer, value));
  return offset ? std::gcd(width, *offset) : 1;
}

/// Where the features of a row of this thread start; the same for all threads where the value has no rows.
OpFoldResult MmaKernel::getRowAddress(const Buffer &buffer, Value value, bool hasRows, int64_t row) {
  SmallVector<OpFoldResult> zeros(buffer.strides.size(), builder.constant(0));
  OpFoldResult address = builder.getAddress(buffer, getIndices(value, zeros));
  if (hasRows)
    for (auto [dim, stride] : llvm::enumerate(buffer.strides))
      if (isLane(value, dim))
        address = lanes.sum(address, lanes.scale(lanes.getRow(row), stride));
  return address;
}

//===----------------------------------------------------------------------------===//
// Tiles
//===----------------------------------------------------------------------------===//

/// Code for tensors that are aligned, and the same with narrow accesses: a branch at each access would keep loads from
/// being in flight together.
void MmaKernel::emitTiles() {
  auto emitVariant = [&] {
    fragments.clear();
    GpuFrame::emitTiles();
  };
  Value aligned = checkAlignment();
  if (!aligned)
    return emitVariant();
  auto variants = scf::IfOp::create(builder, builder.getLoc(), aligned, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(variants.thenBlock());
  emitVariant();
  widths.clear();
  builder.setInsertionPointToStart(variants.elseBlock());
  if (failure.empty())
    emitVariant();
}

void MmaKernel::setInsertionPointToScratch() {
  failure = "an op of the body rearranges what tensor cores keep in registers";
}

//===----------------------------------------------------------------------------===//
// Fragments
//===----------------------------------------------------------------------------===//

FailureOr<MmaKernel::Fragment> MmaKernel::makeFragment(Value value) {
  FailureOr<FragmentShape> shape = FragmentShape::of(value, dims, schedule);
  if (failed(shape)) {
    failure = "a value of the body is no matrix of a tile's rows";
    return mlir::failure();
  }
  Fragment fragment;
  fragment.shape = *shape;
  fragment.rows = shape->hasRows ? getRowsOfThread() : 1;
  if (shape->features != 0) {
    fragment.runs = lanes.getRuns(shape->features);
    fragment.pairs = lanes.countPairs(shape->features);
  }
  fragment.values.resize(fragment.rows * fragment.pairs);
  return fragment;
}

void MmaKernel::setFragment(Value value, Fragment fragment) {
  fragments[value] = std::move(fragment);
  buffers.try_emplace(value); // it is available from here on
}

/// The type of a value where it is a boolean, which is kept in a byte.
static Value fromStored(LaneBuilder &builder, Value value, Type element) {
  if (getElementTypeOrSelf(value.getType()) == element)
    return value;
  Type type = isa<VectorType>(value.getType()) ? builder.getLaneType(element) : element;
  return arith::TruncIOp::create(builder, builder.getLoc(), type, value);
}

static Value toStored(LaneBuilder &builder, Value value, Type element) {
  if (getElementTypeOrSelf(value.getType()) == element)
    return value;
  Type type = isa<VectorType>(value.getType()) ? builder.getLaneType(element) : element;
  return arith::ExtUIOp::create(builder, builder.getLoc(), type, value);
}

void MmaKernel::load(Value value, Fragment &fragment) {
  const Buffer &buffer = buffers[value];
  Type element = getElementTypeOrSelf(value.getType());
  int64_t features = fragment.shape.features, next = 0;
  for (int64_t row = 0; row < fragment.rows; ++row) {
    OpFoldResult address = getRowAddress(buffer, value, fragment.shape.hasRows, row);
    if (features == 0) {
      Value loaded = memref::LoadOp::create(builder, builder.getLoc(), buffer.memory, builder.toValue(address));
      fragment.values[next++] = fromStored(builder, loaded, element);
      continue;
    }
    for (FeatureRun run : fragment.runs)
      for (Value pair : lanes.loadRun(buffer, address, buffer.strides[fragment.shape.featureDim], run, features,
                                      getWidth(buffer, value, fragment.shape)))
        fragment.values[next++] = fromStored(builder, pair, element);
  }
}

Value MmaKernel::getSlot(Value value, Slot slot) {
  auto found = buffers.find(value);
  if (found == buffers.end()) {
    failure = "an op reads a tensor that nothing has written";
    return {};
  }
  if (found->second.splat)
    return found->second.splat;
  auto it = fragments.find(value);
  if (it == fragments.end()) {
    FailureOr<Fragment> loaded = makeFragment(value);
    if (failed(loaded))
      return {};
    load(value, *loaded);
    it = fragments.try_emplace(value, std::move(*loaded)).first;
  }
  return it->second.at(slot);
}

Value MmaKernel::loadOperand(Value value, AffineMap, ArrayRef<OpFoldResult>) { return getSlot(value, current); }

//===----------------------------------------------------------------------------===//
// Ops
//===----------------------------------------------------------------------------===//

void MmaKernel::emitOp(Operation *op) {
  if (isa<tensor::InsertSliceOp>(op))
    return setInsertionPointToScratch();
  KernelEmitter::emitOp(op);
}

void MmaKernel::emitGeneric(linalg::GenericOp op) {
  if (op->getNumResults() != 1)
    failure = "an op of several results has no lowering";
  else if (std::optional<Product> product = matchProduct(op, dims, schedule))
    emitProduct(op, *product);
  else if (op.getNumReductionLoops() != 0)
    emitReduction(op);
  else
    emitElementwise(op);
}

void MmaKernel::emitElementwise(linalg::GenericOp op) {
  FailureOr<Fragment> result = makeFragment(op->getResult(0));
  if (failed(result))
    return;
  for (int64_t row = 0; row < result->rows; ++row)
    for (int64_t pair = 0; pair < result->pairs; ++pair) {
      current = {row, pair};
      Value value = emitPayload(op, {}, {}, {}, {});
      if (!failure.empty())
        return;
      result->at(current) = result->shape.features ? builder.broadcast(value) : value;
    }
  setFragment(op->getResult(0), std::move(*result));
}

/// Whether a reduction may start from its initial value in each thread.
static bool startsNeutral(Operation *combiner, Value init) {
  std::optional<TypedAttr> neutral = arith::getNeutralElement(combiner);
  Attribute start;
  if (!neutral || !init || !matchPattern(init, m_Constant(&start)))
    return false;
  if (auto value = dyn_cast<FloatAttr>(start))
    return value == *neutral || (value.getValue().isZero() && cast<FloatAttr>(*neutral).getValue().isZero());
  return start == *neutral;
}

/// A reduction of a row over its features: of what a thread has, then of the four threads that share the row.
void MmaKernel::emitReduction(linalg::GenericOp op) {
  Operation *combiner = op.getBody()->getTerminator()->getOperand(0).getDefiningOp();
  BlockArgument accumulator = op.getMatchingBlockArgument(op.getDpsInitOperand(0));
  SmallVector<unsigned> reductions;
  op.getReductionDims(reductions);
  FailureOr<Fragment> result = makeFragment(op->getResult(0));
  if (failed(result))
    return;
  Value init = buffers[op.getDpsInitOperand(0)->get()].splat;
  bool fits = combiner && combiner->getNumOperands() == 2 && accumulator.hasOneUse() &&
              llvm::is_contained(combiner->getOperands(), accumulator) && reductions.size() == 1 &&
              result->shape.features == 0 && startsNeutral(combiner, init) && init.getType().isIntOrFloat() &&
              llvm::is_contained({16, 32}, static_cast<int>(init.getType().getIntOrFloatBitWidth()));
  int64_t features = op.getStaticLoopRanges()[reductions.front()];
  if (!fits || ShapedType::isDynamic(features)) {
    failure = "a reduction of the body has no lowering to the threads of a row";
    return;
  }
  auto combine = [&](Value a, Value b) {
    IRMapping mapping;
    for (Value operand : combiner->getOperands())
      mapping.map(operand, operand == accumulator ? a : b);
    return builder.clone(*combiner, mapping)->getResult(0);
  };
  for (int64_t row = 0; row < result->rows; ++row) {
    Value sums = builder.broadcast(init);
    int64_t first = 0;
    for (FeatureRun run : lanes.getRuns(features))
      for (int64_t pair = 0; pair < run.getPairs(); ++pair) {
        current = {row, first++};
        Value next = emitPayload(op, {}, {}, {}, sums);
        if (!failure.empty())
          return;
        sums = lanes.selectFeatures(run, pair, features, builder.broadcast(next), sums);
      }
    Value own = combine(lanes.getElement(sums, 0), lanes.getElement(sums, 1));
    result->at({row, 0}) = lanes.combineRow(own, combine);
  }
  setFragment(op->getResult(0), std::move(*result));
}

/// A view of memory is other strides on it. Of what is in registers, a view may only name dimensions of size 1.
void MmaKernel::emitView(Operation *op) {
  Value source = op->getOperand(0), result = op->getResult(0);
  auto it = fragments.find(source);
  if (it == fragments.end() || buffers[source].memory)
    return KernelEmitter::emitView(op);
  FailureOr<FragmentShape> shape = FragmentShape::of(result, dims, schedule);
  if (failed(shape) || shape->hasRows != it->second.shape.hasRows || shape->features != it->second.shape.features) {
    setInsertionPointToScratch();
    return;
  }
  Fragment view = it->second;
  view.shape = *shape;
  setFragment(result, std::move(view));
}

void MmaKernel::emitYield(unsigned result) {
  Value value = kernel.getYielded()[result];
  const Buffer &output = outputs[result];
  Type stored = cast<MemRefType>(output.memory.getType()).getElementType();
  FailureOr<Fragment> target = makeFragment(value);
  if (failed(target))
    return;
  const FragmentShape &shape = target->shape;
  for (int64_t row = 0; row < target->rows; ++row) {
    for (int64_t pair = 0; pair < target->pairs; ++pair) {
      Value element = getSlot(value, {row, pair});
      if (!failure.empty())
        return;
      element = toStored(builder, element, stored);
      target->at({row, pair}) = shape.features ? builder.broadcast(element) : element;
    }
    lanes.ifRow(row, [&] {
      OpFoldResult address = getRowAddress(output, value, shape.hasRows, row);
      if (shape.features == 0)
        return lanes.ifFirstMember([&] {
          memref::StoreOp::create(builder, builder.getLoc(), target->at({row, 0}), output.memory,
                                  builder.toValue(address));
        });
      int64_t first = row * target->pairs;
      for (FeatureRun run : target->runs) {
        lanes.storeRun(ArrayRef(target->values).slice(first, run.getPairs()), output, address,
                       output.strides[shape.featureDim], run, shape.features, getWidth(output, value, shape));
        first += run.getPairs();
      }
    });
  }
}
