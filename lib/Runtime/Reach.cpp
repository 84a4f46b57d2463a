//===- Reach.cpp - from which results gradients flow to a parameter --------------------===//

#include "pfcn/Runtime/Reach.h"

#include "pfcn/Dialect/Pfcn.h"

#include "llvm/ADT/DenseMap.h"

#include <algorithm>

namespace pfcn::runtime {

/// Whether gradients flow through a value.
static bool isFollowed(mlir::Value value) {
  auto type = mlir::dyn_cast<mlir::ShapedType>(value.getType());
  return type && mlir::isa<mlir::FloatType, mlir::ComplexType>(type.getElementType());
}

Reach::Reach(mlir::func::FuncOp forward) {
  llvm::DenseMap<mlir::Value, Results> reached;
  mlir::Block &block = forward.getBody().front();
  // What buffers become, behind the model's own results, has no gradient.
  auto writes = forward->getAttrOfType<mlir::ArrayAttr>(mlir::pfcn::writesAttrName);
  mlir::OperandRange own = block.getTerminator()->getOperands().drop_back(writes ? writes.size() : 0);
  for (auto [i, returned] : llvm::enumerate(own))
    if (isFollowed(returned)) {
      reached[returned].set(i);
      all.set(i);
    }
  for (mlir::Operation &op : llvm::reverse(block.without_terminator())) {
    if (mlir::isa<mlir::pfcn::DetachOp>(op))
      continue;
    Results results;
    for (mlir::Value result : op.getResults())
      if (auto found = reached.find(result); isFollowed(result) && found != reached.end())
        results |= found->second;
    if (auto parameter = mlir::dyn_cast<mlir::pfcn::ParameterOp>(op))
      parameters[parameter.getPath().str()] |= results;
    if (results.empty())
      continue;
    op.walk([&](mlir::Operation *inner) { // the op itself, and what a region reads
      for (mlir::Value operand : inner->getOperands())
        if (isFollowed(operand))
          reached[operand] |= results;
    });
  }
  for (mlir::BlockArgument argument : block.getArguments())
    inputs.push_back(reached.lookup(argument));
}

ReachedFrom Reach::collect(std::vector<Results> found) const {
  bool areAll = std::all_of(found.begin(), found.end(), [&](const Results &results) { return results == all; });
  return areAll ? nullptr : std::make_shared<const std::vector<Results>>(std::move(found));
}

ReachedFrom Reach::ofParameters(const std::vector<std::string> &paths) const {
  std::vector<Results> found;
  found.reserve(paths.size());
  for (const std::string &path : paths) {
    auto it = parameters.find(path);
    found.push_back(it == parameters.end() ? all : it->second);
  }
  return collect(std::move(found));
}

ReachedFrom Reach::ofInputs(const std::vector<unsigned> &numbers) const {
  std::vector<Results> found;
  found.reserve(numbers.size());
  for (unsigned number : numbers)
    found.push_back(number < inputs.size() ? inputs[number] : all);
  return collect(std::move(found));
}

} // namespace pfcn::runtime
