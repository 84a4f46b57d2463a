//===- MmaProduct.cpp - matrix products on tensor cores --------------------------------===//
//
// A product goes column by column of 8: its accumulators take the elementwise ops that follow it, and are rounded,
// before those of the next columns are begun.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Codegen/MmaKernel.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

using namespace mlir;
using namespace mlir::pfcn;

/// `mma.sync` with f32 accumulators on the registers of a step: of the rows, then of those 8 below, then of both
/// for the second half of the depth.
Value MmaKernel::emitMma(Type element, ArrayRef<Value> rows, ArrayRef<Value> column, ValueRange sums) {
  NVVM::MMATypes type = element.isF16()    ? NVVM::MMATypes::f16
                        : element.isBF16() ? NVVM::MMATypes::bf16
                                           : NVVM::MMATypes::tf32;
  int64_t depth = element.isF32() ? 8 : 8 * column.size();
  SmallVector<Type> parts(4, builder.getF32Type());
  auto result = LLVM::LLVMStructType::getLiteral(builder.getContext(), parts);
  return NVVM::MmaOp::create(builder, builder.getLoc(), result, rows, column, sums,
                             {FragmentBuilder::rowsOfProduct, FragmentBuilder::columnsOfProduct, depth},
                             /*b1Op=*/std::nullopt, /*intOverflow=*/std::nullopt, std::array{type, type},
                             std::array{NVVM::MMALayout::row, NVVM::MMALayout::col});
}

/// A pair as registers of an operand: both in one for 16-bit elements, rounded to tf32 in one each for f32.
static SmallVector<Value> toRegisters(FragmentBuilder &builder, Value pair) {
  Location loc = builder.getLoc();
  Type element = getElementTypeOrSelf(pair.getType());
  if (element.isF16())
    return {pair};
  if (element.isBF16())
    return {LLVM::BitcastOp::create(builder, loc, builder.getI32Type(), pair)};
  SmallVector<Value> registers;
  for (int64_t i : {0, 1})
    registers.push_back(NVVM::ConvertFloatToTF32Op::create(builder, loc, builder.getI32Type(),
                                                           builder.getElement(pair, i), NVVM::FPRoundingMode::RNA));
  return registers;
}

/// Accumulators of one column of 8, two rows after two rows, with the product over the whole depth added to them.
SmallVector<Value> MmaKernel::multiply(const Product &product, ArrayRef<Value> rows, ArrayRef<Value> column,
                                       SmallVector<Value> sums) {
  Location loc = builder.getLoc();
  Type element = product.getElementType();
  int64_t pairs = column.size(), atOnce = std::max<int64_t>(1, cores.getDepth(element) / 8);
  for (int64_t first = 0; first < pairs; first += atOnce)
    for (size_t row = 0; row < sums.size() / 2; row += 2) {
      SmallVector<Value> left, right, parts;
      for (int64_t pair = first; pair < std::min(first + atOnce, pairs); ++pair) {
        SmallVector<Value> upper = toRegisters(lanes, rows[row * pairs + pair]);
        SmallVector<Value> lower = toRegisters(lanes, rows[(row + 1) * pairs + pair]);
        for (auto [a, b] : llvm::zip(upper, lower))
          left.append({a, b});
        llvm::append_range(right, toRegisters(lanes, column[pair]));
      }
      auto four = MutableArrayRef(sums).slice(2 * row, 4);
      Value done = emitMma(element, left, right, ValueRange(four));
      for (auto [i, sum] : llvm::enumerate(four))
        sum = LLVM::ExtractValueOp::create(builder, loc, done, i);
    }
  return sums;
}

/// The left operand, row by row. Behind its last feature it is zero: what was computed there may be infinite.
SmallVector<Value> MmaKernel::takeRows(const Product &product) {
  Value zero = lanes.getZero(builder.getLaneType(product.getElementType()));
  SmallVector<Value> pairs;
  for (int64_t row = 0; row < getRowsOfThread(); ++row) {
    int64_t next = 0;
    for (FeatureRun run : lanes.getRuns(product.depth))
      for (int64_t pair = 0; pair < run.getPairs(); ++pair) {
        Value value = getSlot(product.lhs->get(), {row, next++});
        if (!value)
          return {};
        pairs.push_back(lanes.selectFeatures(run, pair, product.depth, builder.broadcast(value), zero));
      }
  }
  return pairs;
}

/// The right operand: a column of the product over its whole depth, zero behind it.
SmallVector<Value> MmaKernel::loadColumn(const Product &product, OpFoldResult column) {
  Value weights = product.rhs->get();
  const Buffer &buffer = buffers[weights];
  OpFoldResult address = getRowAddress(buffer, weights, /*hasRows=*/false, 0);
  if (product.columnDim >= 0)
    address = lanes.sum(address, lanes.scale(column, buffer.strides[product.columnDim]));
  FragmentShape shape{/*hasRows=*/false, product.depth == 1 ? 0 : product.depth, product.depthDim};
  Value zero = lanes.getZero(builder.getLaneType(product.getElementType()));
  SmallVector<Value> pairs;
  for (FeatureRun run : lanes.getRuns(product.depth)) {
    SmallVector<Value> loaded = lanes.loadRun(buffer, address, buffer.strides[product.depthDim], run, product.depth,
                                              getWidth(buffer, weights, shape));
    for (auto [i, pair] : llvm::enumerate(loaded))
      pairs.push_back(lanes.selectFeatures(run, i, product.depth, pair, zero));
  }
  return pairs;
}

void MmaKernel::emitProduct(linalg::GenericOp op, const Product &product) {
  SmallVector<linalg::GenericOp> epilogue = collectEpilogue(op);
  Value value = (epilogue.empty() ? op : epilogue.back())->getResult(0);
  FailureOr<Fragment> result = makeFragment(value);
  if (failed(result) || !cores.multiplies(product.getElementType()) || !buffers[product.rhs->get()].memory) {
    failure = "a matrix product of the body has no lowering to tensor cores";
    return;
  }
  SmallVector<Value> rows = takeRows(product);
  if (!failure.empty())
    return;
  int64_t next = 0;
  for (FeatureRun run : lanes.getRuns(product.columns)) {
    // ptxas would bring forward the loads of all columns, and spill: none crosses this.
    if (hasManyValues || widths.empty())
      lanes.syncWarp();
    for (int64_t pair = 0; pair < run.getPairs(); ++pair, ++next) {
      SmallVector<Value> sums;
      for (int64_t row = 0; row < getRowsOfThread(); ++row) {
        Value start = getSlot(op.getDpsInitOperand(0)->get(), {row, next});
        if (!start)
          return;
        start = builder.broadcast(start);
        sums.append({lanes.getElement(start, 0), lanes.getElement(start, 1)});
      }
      SmallVector<Value> column = loadColumn(product, lanes.getColumn(run, pair, product.columns));
      sums = multiply(product, rows, column, std::move(sums));
      for (int64_t row = 0; row < getRowsOfThread(); ++row) {
        current = {row, next};
        // A single column is in all threads: those that have none repeat the last one.
        Value known = product.columns == 1 ? sums[2 * row] : lanes.makePair(sums[2 * row], sums[2 * row + 1]);
        Value from = op->getResult(0);
        for (linalg::GenericOp following : epilogue) {
          known = emitPayload(following, {}, from, known, {});
          if (!failure.empty())
            return;
          from = following->getResult(0);
        }
        result->at(current) = result->shape.features ? builder.broadcast(known) : known;
      }
    }
  }
  emitted.insert(epilogue.begin(), epilogue.end());
  setFragment(value, std::move(*result));
}
