//===- Expr.cpp - tensors written as formulas --------------------------------------===//

#include "Expr.h"

namespace pfcn {
using namespace mlir;
using namespace mlir::pfcn;

static Attribute getNumber(Type type, double number) {
  if (auto floatType = dyn_cast<FloatType>(type))
    return FloatAttr::get(floatType, number);
  return IntegerAttr::get(type, static_cast<int64_t>(number));
}

Expr Expr::constant(double number) const {
  auto scalar = RankedTensorType::get({}, element());
  return make<ConstantOp>(DenseElementsAttr::get(scalar, getNumber(element(), number)));
}

Expr Expr::iota(int64_t count, Type element) const {
  SmallVector<Attribute> numbers;
  for (int64_t i = 0; i < count; ++i)
    numbers.push_back(getNumber(element, static_cast<double>(i)));
  return make<ConstantOp>(DenseElementsAttr::get(RankedTensorType::get({count}, element), numbers));
}

Expr Expr::cast(Type to) const { return to == element() ? *this : make<CastOp>(type().clone(to), value); }

Expr Expr::reshape(ArrayRef<int64_t> shape) const {
  return make<ReshapeOp>(RankedTensorType::get(shape, element()), value);
}

Expr Expr::alignAt(int64_t dim, int64_t wanted) const {
  Expr result = *this;
  while (result.rank() < wanted - dim)
    result = result.unsqueeze(result.rank());
  return result;
}

Expr Expr::slice(int64_t dim, int64_t start, int64_t end, int64_t step) const {
  return make<SliceOp>(value, dim, start, end, step);
}

Expr Expr::select(int64_t dim, int64_t index) const { return make<SelectOp>(value, dim, index); }

Expr Expr::expand(ArrayRef<int64_t> shape) const {
  return make<ExpandOp>(RankedTensorType::get(shape, element()), value);
}

static SmallVector<Value> getValues(ArrayRef<Expr> parts) {
  return llvm::map_to_vector(parts, [](const Expr &part) { return part.value; });
}

Expr cat(ArrayRef<Expr> parts, int64_t dim) {
  return parts.size() == 1 ? parts.front() : parts.front().make<CatOp>(getValues(parts), dim);
}

Expr stack(ArrayRef<Expr> parts, int64_t dim) { return parts.front().make<StackOp>(getValues(parts), dim); }

Expr compare(Predicate predicate, Expr a, Expr b) { return a.make<CompareOp>(predicate, a.value, b.value); }

Expr where(Expr condition, Expr a, Expr b) { return a.make<WhereOp>(condition.value, a.value, b.value); }

} // namespace pfcn
