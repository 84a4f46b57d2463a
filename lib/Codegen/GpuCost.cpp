//===- GpuCost.cpp - what a group costs on a GPU, fused or not ------------------------===//

#include "pfcn/Codegen/GpuCost.h"

#include "pfcn/Analysis/Work.h"
#include "pfcn/Codegen/MmaSchedule.h"

#include "mlir/IR/TypeUtilities.h"
#include "llvm/ADT/StringSwitch.h"

using namespace mlir;
using namespace mlir::pfcn;

static GpuChip getData(StringRef chip) {
  return llvm::StringSwitch<GpuChip>(chip)
      .Case("sm_75", {"T4", 40, 1.59, 320, 64, 2, 512})
      .Case("sm_80", {"A100 SXM", 108, 1.41, 1555, 64, 32, 1024})
      .Case("sm_86", {"RTX 3090", 82, 1.70, 936, 128, 2, 256})
      .Case("sm_87", {"Jetson Orin", 16, 1.30, 205, 128, 2, 512})
      .Case("sm_89", {"RTX 4090", 128, 2.52, 1008, 128, 2, 256})
      .Cases({"sm_100", "sm_103"}, {"B200", 148, 1.96, 8000, 128, 64, 4096})
      .Case("sm_110", {"Jetson Thor", 20, 1.57, 273, 128, 2, 1024})
      .Case("sm_120", {"RTX 5090", 170, 2.41, 1792, 128, 2, 256})
      .Case("sm_121", {"DGX Spark", 48, 2.40, 273, 128, 2, 256})
      .Default({"H100 SXM", 132, 1.83, 3350, 128, 64, 2048});
}

GpuChip GpuChip::of(StringRef chip, bool allowTf32) {
  GpuChip data = getData(chip);
  data.tensorCores = TensorCores::of(chip, allowTf32);
  return data;
}

//===----------------------------------------------------------------------------===//
// Sizes
//===----------------------------------------------------------------------------===//

static ArrayRef<int64_t> shapeOf(Value value) { return cast<RankedTensorType>(value.getType()).getShape(); }

bool mlir::pfcn::isMatrixProduct(Operation *op) { return isProduct(op) && !isa<ConvOp>(op); }

namespace {
/// matrices × [rows, depth] · [depth, columns]
struct MatrixProduct {
  explicit MatrixProduct(Operation *op) {
    ArrayRef<int64_t> result = shapeOf(op->getResult(0));
    depth = getDepth(op);
    columns = assumeSize(result.back());
    if (result.size() > 1)
      rows = assumeSize(result[result.size() - 2]);
    for (int64_t size : result.drop_back(std::min<size_t>(2, result.size())))
      matrices *= assumeSize(size);
    element = getElementTypeOrSelf(op->getResult(0));
  }
  double multiplyAdds() const { return matrices * rows * columns * depth; }

  double matrices = 1, rows = 1, columns = 1, depth = 1;
  Type element;
};
} // namespace

//===----------------------------------------------------------------------------===//
// Times
//===----------------------------------------------------------------------------===//

/// Multiply-adds in a microsecond that keep all multiprocessors busy.
static double getRate(const GpuChip &chip, double each) { return chip.multiprocessors * chip.ghz * 1e3 * each; }

/// What of the multiprocessors `parts` keep busy, of which one takes `each`.
static double getUse(const GpuChip &chip, double parts, double each) {
  return std::min(1.0, std::max(1.0, parts) / (chip.multiprocessors * each));
}

/// Whether a kernel with these products will be on tensor cores, as far as can be told before it is linalg: see
/// `MmaSchedule::choose`. A warp holds what it multiplies, and what comes of it, in registers.
static bool useTensorCores(ArrayRef<MatrixProduct> products, const GpuChip &chip) {
  double instructions = 0;
  for (const MatrixProduct &product : products) {
    if (!chip.tensorCores.multiplies(product.element) || product.rows < MmaSchedule::fewestRows)
      return false;
    double width = product.element.isF32() ? 2 : 1;
    double registers = 2 * width * (std::ceil(product.depth / 8) + std::ceil(product.columns / 8));
    instructions +=
        std::ceil(product.columns / 8) * std::ceil(product.depth / chip.tensorCores.getDepth(product.element));
    if (registers > MmaSchedule::mostRegisters)
      return false;
  }
  return instructions <= MmaSchedule::mostProducts;
}

/// A product in a kernel of ours. Threads read an operand from shared memory for nearly every multiplication, and
/// share features where points are few; warps of tensor cores read weights from L1.
static double timeInKernel(const MatrixProduct &product, bool onTensorCores, const GpuChip &chip) {
  constexpr double threadRate = 0.25, tensorRate = 0.2, enoughWarps = 8, sharers = 8;
  double points = product.matrices * product.rows;
  if (onTensorCores) {
    double warps = product.matrices * std::ceil(product.rows / 16);
    double rate = getRate(chip, chip.getTensorRate(product.element)) * tensorRate;
    return product.multiplyAdds() / (rate * getUse(chip, warps, 4));
  }
  double each = chip.getThreadRate(product.element);
  double warps = std::min(points / 32 * std::min(sharers, product.columns), enoughWarps * chip.multiprocessors);
  warps = std::max(warps, points / 32);
  return product.multiplyAdds() / (getRate(chip, each) * threadRate * getUse(chip, warps, enoughWarps));
}

/// A product by cuBLAS, in tiles of 64 × 64.
static double timeInLibrary(Operation *op, const GpuChip &chip) {
  constexpr double rate = 0.6;
  MatrixProduct product(op);
  double each = chip.tensorCores.multiplies(product.element) ? chip.getTensorRate(product.element)
                                                             : chip.getThreadRate(product.element);
  double tiles = product.matrices * std::ceil(product.rows / 64) * std::ceil(product.columns / 64);
  // A tile is computed in full.
  double computed = tiles * 64 * 64 * product.depth;
  double bytes = countBytes(op->getResult(0));
  for (Value operand : op->getOperands())
    bytes += countBytes(operand);
  double compute = computed / (getRate(chip, each) * rate * getUse(chip, tiles, 1));
  return chip.call + std::max(compute, bytes / chip.bandwidth / 1e3);
}

/// A kernel of ours for some ops of a body, with what enters and leaves them in memory.
static double timeOfKernel(ArrayRef<Operation *> ops, const GpuChip &chip) {
  constexpr double transcendental = 16;
  llvm::SmallPtrSet<Operation *, 16> inside(ops.begin(), ops.end());
  llvm::SmallPtrSet<Value, 16> read;
  double bytes = 0, compute = 0;
  SmallVector<MatrixProduct> products;
  for (Operation *op : ops) {
    for (Value operand : op->getOperands())
      if (!operand.getDefiningOp() || !inside.contains(operand.getDefiningOp()))
        if (read.insert(operand).second)
          bytes += countBytes(operand);
    if (llvm::any_of(op->getUsers(), [&](Operation *user) { return !inside.contains(user); }))
      for (Value result : op->getResults())
        bytes += countBytes(result);
    if (isMatrixProduct(op))
      products.emplace_back(op);
    else if (!isFree(op) && op->getNumResults() != 0)
      compute += countElements(op->getResult(0)) * (isa<AddOp, SubOp, MulOp, ReluOp>(op) ? 1 : transcendental) /
                 getRate(chip, chip.fma);
  }
  bool onTensorCores = useTensorCores(products, chip);
  for (const MatrixProduct &product : products)
    compute += timeInKernel(product, onTensorCores, chip);
  return chip.launch + std::max(compute, bytes / chip.bandwidth / 1e3);
}

//===----------------------------------------------------------------------------===//
// Plans
//===----------------------------------------------------------------------------===//

/// Cuts a body before each of its products. None where an op is not of the dialect.
static SmallVector<Piece> cutIntoLayers(KernelOp kernel) {
  SmallVector<Piece> layers;
  bool hasProduct = false;
  for (Operation &op : kernel.getBodyBlock()->without_terminator()) {
    if (op.getDialect() != kernel->getDialect() || op.getNumResults() != 1)
      return {};
    if (isFree(&op))
      continue;
    bool cuts = isMatrixProduct(&op) && hasProduct;
    hasProduct |= isMatrixProduct(&op);
    if (layers.empty() || cuts)
      layers.emplace_back();
    layers.back().ops.push_back(&op);
  }
  return layers;
}

/// The product of a layer by torch, with what comes before and after it in kernels. `ends`: no op of the body follows.
static SmallVector<Piece> useLibrary(const Piece &layer, bool ends) {
  auto product = llvm::find_if(layer.ops, isMatrixProduct);
  if (product == layer.ops.end())
    return {};
  auto before = llvm::make_range(layer.ops.begin(), product);
  auto after = llvm::make_range(std::next(product), layer.ops.end());
  SmallVector<Piece> pieces;
  if (!before.empty())
    pieces.push_back({llvm::to_vector(before)});
  pieces.push_back({{*product}, ends && after.empty() ? Piece::CopiedCall : Piece::Call});
  if (!after.empty())
    pieces.push_back({llvm::to_vector(after)});
  return pieces;
}

static double timeOf(const Piece &piece, const GpuChip &chip) {
  if (piece.kind == Piece::Kernel)
    return timeOfKernel(piece.ops, chip);
  double copy = 2 * countBytes(piece.ops.front()->getResult(0)) / chip.bandwidth / 1e3;
  return timeInLibrary(piece.ops.front(), chip) + (piece.kind == Piece::CopiedCall ? chip.call + copy : 0);
}

GpuPlan mlir::pfcn::planForGpu(KernelOp kernel, const GpuChip &chip, GpuStrategy strategy, bool libraryAllowed) {
  GpuPlan plan;
  SmallVector<Operation *> all;
  for (Operation &op : kernel.getBodyBlock()->without_terminator())
    all.push_back(&op);
  plan.fused = timeOfKernel(all, chip);
  SmallVector<Piece> layers = cutIntoLayers(kernel);
  for (Piece &layer : layers) {
    double asKernel = timeOf(layer, chip), asCalls = 0;
    SmallVector<Piece> calls;
    if (libraryAllowed && (strategy == GpuStrategy::Auto || strategy == GpuStrategy::Library))
      calls = useLibrary(layer, /*ends=*/&layer == &layers.back());
    for (const Piece &piece : calls)
      asCalls += timeOf(piece, chip);
    bool useCalls = !calls.empty() && (strategy == GpuStrategy::Library || asCalls < asKernel);
    plan.split += useCalls ? asCalls : asKernel;
    if (useCalls)
      llvm::append_range(plan.layers, calls);
    else
      plan.layers.push_back(std::move(layer));
  }
  plan.isSplit = !plan.layers.empty() &&
                 (strategy == GpuStrategy::Auto ? plan.split < plan.fused : strategy != GpuStrategy::Fused);
  return plan;
}
