//===- PfcnDialect.cpp - the dialect and its attributes -------------------------===//
//
// Registration, and `#pfcn.access`: how an operand of a group varies with the instance.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Dialect/Pfcn.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/CheckedArithmetic.h"

using namespace mlir;
using namespace mlir::pfcn;

#include "pfcn/Dialect/PfcnDialect.cpp.inc"
#include "pfcn/Dialect/PfcnEnums.cpp.inc"

#include "pfcn/Dialect/BatchingOpInterface.cpp.inc"
#include "pfcn/Dialect/DifferentiableOpInterface.cpp.inc"

#define GET_ATTRDEF_CLASSES
#include "pfcn/Dialect/PfcnAttrs.cpp.inc"

void PfcnDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "pfcn/Dialect/PfcnAttrs.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "pfcn/Dialect/PfcnOps.cpp.inc"
      >();
}

Operation *PfcnDialect::materializeConstant(OpBuilder &builder, Attribute value, Type type, Location loc) {
  auto elements = dyn_cast<ElementsAttr>(value);
  if (!elements || elements.getShapedType() != type)
    return nullptr;
  return ConstantOp::create(builder, loc, type, elements);
}

//===----------------------------------------------------------------------------===//
// AccessAttr
//===----------------------------------------------------------------------------===//

AccessAttr AccessAttr::getShared(MLIRContext *context) { return get(context, AccessKind::Shared, 0, 0, 0, 0, {}); }

AccessAttr AccessAttr::getSelect(MLIRContext *context, int64_t dim, int64_t stride, int64_t offset) {
  return get(context, AccessKind::Select, dim, 1, stride, offset, {});
}

AccessAttr AccessAttr::getSlice(MLIRContext *context, int64_t dim, int64_t size, int64_t stride, int64_t offset) {
  return get(context, AccessKind::Slice, dim, size, stride, offset, {});
}

AccessAttr AccessAttr::getForStarts(MLIRContext *context, int64_t dim, int64_t size, ArrayRef<int64_t> starts) {
  AccessKind kind = size < 0 ? AccessKind::Select : AccessKind::Slice;
  int64_t width = size < 0 ? 1 : size;
  int64_t offset = starts.empty() ? 0 : starts.front();
  int64_t stride = starts.size() < 2 ? width : starts[1] - starts[0];
  for (auto [i, start] : llvm::enumerate(starts))
    if (start != offset + static_cast<int64_t>(i) * stride)
      return get(context, kind, dim, width, 0, 0, starts);
  return get(context, kind, dim, width, stride, offset, {});
}

RankedTensorType AccessAttr::getInstanceType(RankedTensorType whole) const {
  if (isShared())
    return whole;
  SmallVector<int64_t> shape(whole.getShape());
  if (isSelect())
    shape.erase(shape.begin() + getDim());
  else
    shape[getDim()] = getSize();
  return RankedTensorType::get(shape, whole.getElementType());
}

RankedTensorType AccessAttr::getBatchedType(RankedTensorType whole, int64_t count) const {
  if (isShared())
    return whole;
  SmallVector<int64_t> shape(getInstanceType(whole).getShape());
  shape.insert(shape.begin(), count);
  return RankedTensorType::get(shape, whole.getElementType());
}

LogicalResult AccessAttr::verifyFits(function_ref<InFlightDiagnostic()> emitError, RankedTensorType whole,
                                     int64_t count, ArrayRef<int64_t> sizes) const {
  if (isShared())
    return success();
  if (getDim() < 0 || getDim() >= whole.getRank())
    return emitError() << "access of dimension " << getDim() << " of a tensor of rank " << whole.getRank();
  if (!isAffine() && static_cast<int64_t>(getTable().size()) != count)
    return emitError() << "access has a table of " << getTable().size() << " starts for " << count << " instances";
  int64_t extent = whole.getDimSize(getDim());
  if (isAffine() && !llvm::checkedMulAdd(std::max<int64_t>(count - 1, 0), getStride(), getOffset()))
    return emitError() << "access of instance " << count - 1 << " is beyond what can be addressed";
  for (int64_t i = 0; i < count; ++i) {
    int64_t start = getStart(i), size = sizes.empty() ? getSize() : sizes[i];
    if (start < 0 || (!ShapedType::isDynamic(extent) && start > extent - size))
      return emitError() << "instance " << i << " accesses elements [" << start << ", "
                         << llvm::checkedAdd(start, size).value_or(std::numeric_limits<int64_t>::max())
                         << ") of dimension " << getDim() << " of size " << extent;
    if (sizes.empty() && isAffine() && i + 1 < count)
      i = std::max(i, count - 2); // a progression fits if its first and last element do
  }
  return success();
}

Attribute AccessAttr::parse(AsmParser &parser, Type) {
  MLIRContext *context = parser.getContext();
  StringRef keyword;
  if (parser.parseLess() || parser.parseKeyword(&keyword))
    return {};
  if (keyword == "shared")
    return parser.parseGreater() ? Attribute() : getShared(context);
  if (keyword != "slice" && keyword != "select") {
    parser.emitError(parser.getCurrentLocation(), "expected 'shared', 'slice' or 'select'");
    return {};
  }
  AccessKind kind = keyword == "slice" ? AccessKind::Slice : AccessKind::Select;
  int64_t dim = 0, size = 1, stride = 1, offset = 0;
  SmallVector<int64_t> table;
  if (parser.parseKeyword("dim") || parser.parseInteger(dim))
    return {};
  if (kind == AccessKind::Slice && (parser.parseKeyword("size") || parser.parseInteger(size)))
    return {};
  if (size < 0) {
    parser.emitError(parser.getCurrentLocation(), "a slice of negative size");
    return {};
  }
  if (succeeded(parser.parseOptionalKeyword("at"))) {
    stride = 0;
    if (parser.parseCommaSeparatedList(AsmParser::Delimiter::Square,
                                       [&] { return parser.parseInteger(table.emplace_back()); }))
      return {};
  } else {
    if (succeeded(parser.parseOptionalKeyword("stride")) && parser.parseInteger(stride))
      return {};
    if (succeeded(parser.parseOptionalKeyword("offset")) && parser.parseInteger(offset))
      return {};
  }
  if (parser.parseGreater())
    return {};
  return get(context, kind, dim, size, stride, offset, table);
}

void AccessAttr::print(AsmPrinter &printer) const {
  if (isShared()) {
    printer << "<shared>";
    return;
  }
  printer << (isSlice() ? "<slice dim " : "<select dim ") << getDim();
  if (isSlice())
    printer << " size " << getSize();
  if (!isAffine()) {
    printer << " at [";
    llvm::interleaveComma(getTable(), printer.getStream());
    printer << "]";
  } else {
    if (getStride() != 1)
      printer << " stride " << getStride();
    if (getOffset() != 0)
      printer << " offset " << getOffset();
  }
  printer << ">";
}
