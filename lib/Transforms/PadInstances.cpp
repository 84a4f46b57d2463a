//===- PadInstances.cpp - zeros that make instances of one size ---------------------===//
//
// Rewrites what the analysis chose: the inputs of its products become parts of one gathered tensor,
// and their weights parts of one stack, both with zeros behind what is short. The products
// then are of one type, and form one group as others do.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Analysis/Padding.h"
#include "pfcn/Transforms/CheckIndices.h"
#include "pfcn/Transforms/Explain.h"
#include "pfcn/Transforms/Passes.h"

#include "mlir/IR/Dominance.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/IR/Remarks.h"
#include "mlir/Transforms/CSE.h"

namespace mlir::pfcn {
#define GEN_PASS_DEF_PADINSTANCESPASS
#include "pfcn/Transforms/Passes.h.inc"
} // namespace mlir::pfcn

using namespace mlir;
using namespace mlir::pfcn;

/// The type of a tensor whose dimension `dim` is padded.
static RankedTensorType getPaddedType(RankedTensorType type, int64_t dim, int64_t size, int64_t count = 0) {
  SmallVector<int64_t> shape(type.getShape());
  shape[dim] = size;
  if (count > 0)
    shape.insert(shape.begin(), count);
  return RankedTensorType::get(shape, type.getElementType());
}

static Value buildWeights(OpBuilder &builder, const Padding &padding) {
  SmallVector<Attribute> paths;
  Factors first = *getFactors(padding.products.front());
  for (Operation *product : padding.products)
    paths.push_back(getFactors(product)->weight->get().getDefiningOp<ParameterOp>().getPathAttr());
  auto count = static_cast<int64_t>(padding.products.size());
  RankedTensorType type = getPaddedType(ranked(first.weight->get()), first.weightDim, padding.size, count);
  auto stack = ParameterStackOp::create(builder, padding.products.front()->getLoc(), type, builder.getArrayAttr(paths),
                                        builder.getI64IntegerAttr(first.weightDim + 1),
                                        builder.getDenseI64ArrayAttr(padding.sizes));
  stack->setAttr(paddingAttrName, builder.getStringAttr(padding.reason));
  return stack;
}

static Value buildInputs(OpBuilder &builder, const Padding &padding) {
  RankedTensorType whole = ranked(padding.whole);
  int64_t dim = whole.getRank() - 1;
  auto count = static_cast<int64_t>(padding.products.size());
  AccessAttr access = AccessAttr::getForStarts(builder.getContext(), dim, padding.size, padding.starts);
  return GatherInstancesOp::create(builder, padding.products.front()->getLoc(),
                                   getPaddedType(whole, dim, padding.size, count), padding.whole, access,
                                   builder.getDenseI64ArrayAttr(padding.sizes));
}

/// An input that is no part of one tensor, padded on its own.
static Value padAlone(OpBuilder &builder, Value input, int64_t size) {
  int64_t missing = size - ranked(input).getShape().back();
  if (missing == 0)
    return input;
  RankedTensorType type = getPaddedType(ranked(input), ranked(input).getRank() - 1, size);
  return PadOp::create(builder, input.getLoc(), type, input, builder.getDenseI64ArrayAttr({0}),
                       builder.getDenseI64ArrayAttr({missing}), builder.getF64FloatAttr(0));
}

/// One-hot codes with as many places as the longest has, from the numbers that they encode. A number for which its own
/// code had no place would meet a zero of the weight: they are looked at before.
static Value encode(OpBuilder &builder, Location loc, Value numbers, Value like, int64_t size) {
  RankedTensorType type = ranked(numbers);
  Value last = buildLastIndex(builder, loc, ranked(like).getShape().back());
  numbers = buildIndexCheck(builder, loc, numbers, last, "aten::one_hot");
  auto placesType = RankedTensorType::get({size}, type.getElementType());
  SmallVector<APInt> elements;
  for (int64_t place = 0; place < size; ++place)
    elements.emplace_back(type.getElementTypeBitWidth(), place);
  Value all = ConstantOp::create(builder, loc, placesType, DenseElementsAttr::get(placesType, elements));
  Value column = UnsqueezeOp::create(builder, loc, numbers, type.getRank());
  Value isPlace = CompareOp::create(builder, loc, Predicate::eq, column, all);
  return CastOp::create(builder, loc, getPaddedType(ranked(like), ranked(like).getRank() - 1, size), isPlace);
}

static void pad(const Padding &padding) {
  OpBuilder builder(padding.products.front());
  Value weights = buildWeights(builder, padding), inputs;
  if (padding.whole)
    inputs = buildInputs(builder, padding);
  for (auto [i, product] : llvm::enumerate(padding.products)) {
    Factors factors = *getFactors(product);
    builder.setInsertionPoint(product);
    factors.weight->set(SelectOp::create(builder, product->getLoc(), weights, /*dim=*/0, i));
    Value input = factors.input->get();
    factors.input->set(inputs ? Value(SelectOp::create(builder, product->getLoc(), inputs, /*dim=*/0, i))
                       : padding.codes.empty()
                           ? padAlone(builder, input, padding.size)
                           : encode(builder, product->getLoc(), padding.codes[i], input, padding.size));
  }
}

static remark::RemarkOpts getRemarkOpts(func::FuncOp function) {
  return remark::RemarkOpts::name("PadInstances").category("pfcn.fusion").function(function.getName());
}

static void emitRemark(func::FuncOp function, const Padding &padding) {
  if (auto remark = remark::passed(padding.products.front()->getLoc(), getRemarkOpts(function)))
    remark << remark::reason("{0}", padding.reason)
           << remark::metric("instances", static_cast<int64_t>(padding.products.size()));
}

static void emitRemark(func::FuncOp function, const Miss &miss) {
  if (auto remark = remark::missed(miss.where->getLoc(), getRemarkOpts(function)))
    remark << remark::reason("{0}", miss.reason);
}

namespace {

struct PadInstances : mlir::pfcn::impl::PadInstancesPassBase<PadInstances> {
  PadInstances() = default;
  explicit PadInstances(FusionReport *report) : report(report) {}

  void runOnOperation() override {
    func::FuncOp function = getOperation();
    if (function.isDeclaration() || !llvm::hasSingleElement(function.getBody()))
      return;
    Block &block = function.getBody().front();
    if (!haveSeveralSizes(block)) // what follows takes a tenth of the detection of a large model
      return;
    IRRewriter rewriter(&getContext());
    eliminateCommonSubExpressions(rewriter, getAnalysis<DominanceInfo>(), function);
    Paddings paddings = findPaddings(block);
    {
      std::lock_guard<std::mutex> lock(getExplainMutex());
      for (const Padding &padding : paddings.chosen)
        emitRemark(function, padding);
      for (const Miss &miss : paddings.kept) {
        emitRemark(function, miss);
        if (report)
          report->missed.push_back(explain(miss));
      }
    }
    for (const Padding &padding : paddings.chosen)
      pad(padding);
    for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block)))
      if (!paddings.chosen.empty() && isOpTriviallyDead(&op))
        op.erase();
  }

  FusionReport *report = nullptr;
};

} // namespace

std::unique_ptr<Pass> mlir::pfcn::createPadInstancesPass(FusionReport *report) {
  return std::make_unique<PadInstances>(report);
}
