//===- AtenTable.h - which torch operator is which dialect op ------------*- C++ -*-===//
//
// One builder per operator of torch. A builder declines (returns false) what it cannot say
// exactly; the call then stays a `pfcn.opaque`.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_LIB_IMPORT_ATENTABLE_H
#define PFCN_LIB_IMPORT_ATENTABLE_H

#include "pfcn/Dialect/Pfcn.h"
#include "pfcn/Import/Tape.h"

#include "mlir/IR/Builders.h"
#include "llvm/ADT/StringMap.h"

namespace pfcn {

/// Throws for element types that the dialect does not have.
mlir::Type getElementType(mlir::MLIRContext *context, at::ScalarType dtype);
mlir::RankedTensorType getType(mlir::MLIRContext *context, const TensorMeta &meta);
/// A number as a constant of rank 0.
mlir::Value buildScalar(mlir::OpBuilder &builder, mlir::Location loc, const at::Scalar &scalar, at::ScalarType dtype);
/// The data of a tensor as an attribute.
mlir::DenseElementsAttr getData(mlir::MLIRContext *context, const at::Tensor &tensor);

/// One call, as a builder of the table sees it.
class CallImporter {
public:
  CallImporter(mlir::OpBuilder &builder, mlir::Location loc, const Tape &tape, const TapeCall &call,
               llvm::ArrayRef<mlir::Value> values, bool isComposing = false)
      : builder(builder), loc(loc), isComposing(isComposing), tape(tape), call(call), values(values) {}

  mlir::OpBuilder &builder;
  mlir::Location loc;
  /// Whether it builds the body of a `pfcn.composed`, in which no operand is a known number.
  const bool isComposing;
  /// What the builder leaves: one value per result of the call.
  llvm::SmallVector<mlir::Value> results;
  /// Of a composed operator: set where these arguments make it smooth, if it is not for all.
  bool isSmooth = false;

  /// Whether autograd will follow the model.
  bool isFollowed() const { return tape.isFollowed; }
  size_t size() const { return call.arguments.size(); }
  const c10::IValue &constant(size_t i) const { return call.arguments[i].constant; }
  bool isNone(size_t i) const { return call.arguments[i].kind == TapeArgument::Kind::Constant && constant(i).isNone(); }
  bool isTensor(size_t i) const { return call.arguments[i].kind == TapeArgument::Kind::Tensor; }
  /// The operand; null where it is None.
  mlir::Value tensor(size_t i) { return isTensor(i) ? valueOf(call.arguments[i].tensors[0]) : mlir::Value(); }
  llvm::SmallVector<mlir::Value> tensors(size_t i);
  llvm::ArrayRef<int> list(size_t i) const { return call.arguments[i].tensors; }
  const TapeValue &source(size_t i) const { return tape.values[call.arguments[i].tensors[0]]; }
  const TensorMeta &meta(size_t i) const { return source(i).meta; }
  const TensorMeta &metaOf(int value) const { return tape.values[value].meta; }
  int64_t integer(size_t i) const { return constant(i).toInt(); }
  bool flag(size_t i) const { return constant(i).toBool(); }
  double number(size_t i) const { return constant(i).toScalar().toDouble(); }
  /// A dimension of tensor argument `of`, counted from the front.
  int64_t dim(size_t i, size_t of = 0) const { return wrap(integer(i), meta(of).rank()); }
  static int64_t wrap(int64_t dim, int64_t rank) { return dim < 0 ? dim + std::max<int64_t>(rank, 1) : dim; }
  /// An argument `int` or `int[]` of dimensions; none or empty: all of them.
  llvm::SmallVector<int64_t> dims(size_t i, size_t of = 0) const;

  size_t resultCount() const { return call.results.size(); }
  const TensorMeta &resultMeta(size_t i = 0) const { return tape.values[call.results[i]].meta; }
  at::ScalarType resultDtype(size_t i = 0) const { return resultMeta(i).dtype; }
  mlir::RankedTensorType resultType(size_t i = 0) const { return getType(builder.getContext(), resultMeta(i)); }

  /// The value converted as torch converts it.
  mlir::Value cast(mlir::Value value, at::ScalarType dtype);
  /// Argument `i`, a tensor or a number, in the given element type. Null if it is neither.
  mlir::Value operand(size_t i, at::ScalarType dtype);
  mlir::Value scalar(const at::Scalar &scalar, at::ScalarType dtype) {
    return buildScalar(builder, loc, scalar, dtype);
  }

  bool finish(mlir::Value value) {
    results.push_back(value);
    return true;
  }
  template <typename Op, typename... Arguments> bool finishWith(Arguments &&...arguments) {
    return finish(Op::create(builder, loc, resultType(), std::forward<Arguments>(arguments)...));
  }

private:
  /// Known numbers are built where they are used.
  mlir::Value valueOf(int value) {
    const TapeValue &source = tape.values[value];
    return values[value] || !source.isScalar() ? values[value] : scalar(source.constant.item(), source.meta.dtype);
  }

  const Tape &tape;
  const TapeCall &call;
  llvm::ArrayRef<mlir::Value> values;
};

using CallBuilder = bool (*)(CallImporter &);

/// How an operator is said in the dialect: by ops in its place, or by a `pfcn.composed` that holds them.
struct TableEntry {
  CallBuilder build = nullptr;
  bool isComposed = false;
  /// Of a composed one: whether the gradient of its body is torch's everywhere.
  bool isSmooth = false;
};

class AtenTable {
public:
  void add(std::initializer_list<llvm::StringRef> names, CallBuilder build) { addAll(names, {build, false, false}); }
  void addComposed(std::initializer_list<llvm::StringRef> names, CallBuilder build) {
    addAll(names, {build, true, false});
  }
  void addSmooth(std::initializer_list<llvm::StringRef> names, CallBuilder build) {
    addAll(names, {build, true, true});
  }
  /// The entry for "aten::add.Tensor"; null where the dialect lacks the operator.
  const TableEntry *lookUp(llvm::StringRef name) const {
    auto found = entries.find(name);
    return found == entries.end() ? nullptr : &found->second;
  }

private:
  void addAll(std::initializer_list<llvm::StringRef> names, TableEntry entry) {
    for (llvm::StringRef name : names)
      entries[("aten::" + name).str()] = entry;
  }
  llvm::StringMap<TableEntry> entries;
};

const AtenTable &getAtenTable();

// The parts of the table that have files of their own.
void addWindows(AtenTable &table);
void addComposedPointwise(AtenTable &table);
void addComposedReductions(AtenTable &table);
void addComposedLayers(AtenTable &table);
void addRecurrent(AtenTable &table);

/// `pad` in the modes that fill up with elements of the tensor.
bool padByCopies(CallImporter &call);

/// Numbers that the dialect computes with: no booleans, whose sum is torch's `or`, and no
/// uint8, which the dialect does not tell apart from int8.
bool isNumber(at::ScalarType dtype);
/// The element type in which torch computes with two arguments.
at::ScalarType getCommonDtype(const CallImporter &call, size_t first, size_t second);

} // namespace pfcn

#endif // PFCN_LIB_IMPORT_ATENTABLE_H
