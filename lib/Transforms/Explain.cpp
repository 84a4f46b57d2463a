//===- Explain.cpp - groups and misses in words -----------------------------------===//
//
// Weights are named by path, and never printed.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Transforms/Explain.h"

#include "pfcn/Analysis/Work.h"

#include "mlir/IR/Location.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace mlir::pfcn;

std::string mlir::pfcn::describe(Location loc) {
  return TypeSwitch<LocationAttr, std::string>(loc)
      .Case<FileLineColLoc>([](FileLineColLoc file) {
        return llvm::formatv("{0}:{1}", file.getFilename().getValue(), file.getLine()).str();
      })
      .Case<NameLoc>([](NameLoc name) {
        std::string inner = describe(name.getChildLoc());
        std::string outer = name.getName().str();
        return inner.empty() ? outer : outer + " (" + inner + ")";
      })
      .Case<FusedLoc>([](FusedLoc fused) {
        return fused.getLocations().empty() ? std::string() : describe(fused.getLocations().front());
      })
      .Case<CallSiteLoc>([](CallSiteLoc call) { return describe(call.getCallee()); })
      .Default([](LocationAttr) { return std::string(); });
}

std::mutex &mlir::pfcn::getExplainMutex() {
  static std::mutex mutex;
  return mutex;
}

static std::string describeSizes(ArrayRef<int64_t> sizes, int64_t padded) {
  auto [least, most] = std::minmax_element(sizes.begin(), sizes.end());
  return llvm::formatv("{0} to {1} elements padded with zeros to {2}", *least, *most, padded);
}

/// Of a column that is padded; else empty.
static std::string describePadded(const Column &column) {
  if (auto stack = column.whole.getDefiningOp<ParameterStackOp>(); stack && stack.getSizes()) {
    auto paths = stack.getPaths().getAsValueRange<StringAttr>();
    auto parts = llvm::to_vector(paths);
    int64_t padded = ranked(column.whole).getDimSize(static_cast<int64_t>(*stack.getDim()));
    return llvm::formatv("own parameter, {0} to {1}, copied into one, {2}", parts.front(), parts.back(),
                         describeSizes(*stack.getSizes(), padded));
  }
  if (auto gather = column.whole.getDefiningOp<GatherInstancesOp>(); gather && gather.getSizes())
    return llvm::formatv("own part of one tensor, copied, {0}",
                         describeSizes(*gather.getSizes(), gather.getAccess().getSize()));
  return "";
}

static std::string describe(const Column &column) {
  auto path = [&](Value value) { return value.getDefiningOp<ParameterOp>().getPath(); };
  switch (column.kind) {
  case Column::Shared:
    return column.values[0].getDefiningOp<ParameterOp>() ? ("shared parameter " + path(column.values[0])).str()
                                                         : "shared by all";
  case Column::Part:
    if (std::string padded = describePadded(column); !padded.empty())
      return padded;
    return column.size < 0
               ? llvm::formatv("one element of dimension {0} each, read in place", column.dim).str()
               : llvm::formatv("{0} elements of dimension {1} each, read in place", column.size, column.dim).str();
  case Column::Parameters:
    return llvm::formatv("own parameter, {0} to {1}", path(column.values.front()), path(column.values.back()));
  case Column::Constants:
    return "own constant";
  case Column::Results:
    return "own result of an earlier group, read in place";
  case Column::Copies:
    return "own tensor, copied into one";
  }
  llvm_unreachable("unknown kind of column");
}

/// Of all instances, counted on the first.
static void countWork(const Group &group, FusionReport::Group &text) {
  llvm::SmallPtrSet<Operation *, 16> body(group.getBody().begin(), group.getBody().end());
  for (Operation *op : group.getBody()) {
    text.flops += countFlops(op);
    if (!isFree(op))
      text.bytesBefore += countBytes(op);
    for (Value result : op->getResults())
      if (llvm::any_of(result.getUsers(), [&](Operation *user) { return !body.contains(user); }))
        text.bytesAfter += countBytes(result);
  }
  double shared = 0;
  for (const Column &column : group.columns)
    (column.kind == Column::Shared ? shared : text.bytesAfter) += countBytes(column.values.front());
  auto count = static_cast<double>(group.getCount());
  text.flops *= count;
  text.bytesBefore *= count;
  text.bytesAfter = count * text.bytesAfter + shared;
}

FusionReport::Group mlir::pfcn::explain(const Group &group) {
  FusionReport::Group text;
  text.name = group.name;
  text.instances = group.getCount();
  for (Operation *op : group.getBody())
    text.ops.push_back(op->getName().getStringRef().str());
  for (const Column &column : group.columns)
    text.operands.push_back(::describe(column));
  text.reason = llvm::formatv("{0} independent instances of {1} op{2}, equal up to their weights and inputs",
                              group.getCount(), group.getBody().size(), group.getBody().size() == 1 ? "" : "s");
  text.where = describe(group.getBody().front()->getLoc());
  for (const Column &column : group.columns)
    if (auto stack = column.whole ? column.whole.getDefiningOp<ParameterStackOp>() : ParameterStackOp())
      if (auto padding = stack->getAttrOfType<StringAttr>(paddingAttrName))
        text.padding += (text.padding.empty() ? "" : "; ") + padding.str();
  countWork(group, text);
  return text;
}

FusionReport::Miss mlir::pfcn::explain(const Miss &miss) {
  return {miss.reason, miss.suggestion, miss.where ? describe(miss.where->getLoc()) : "",
          miss.other ? describe(miss.other->getLoc()) : ""};
}
