//===- FragmentBuilder.h - lanes as fragments of tensor cores -------------*- C++ -*-===//
//
// A warp holds 16 rows (of the batch), or several times as many. Of 4 R neighbouring features, member t of four
// threads holds the run from R t on, for rows g and g + 8: what `mma.sync` gives as accumulators is then what it takes
// as its next operand, in the same registers, and a thread reads and writes R neighbours at a time. Which column of an
// `mma` a feature is does not matter to a sum over all of them. A lane is a pair of features, as a vector.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_CODEGEN_FRAGMENTBUILDER_H
#define PFCN_CODEGEN_FRAGMENTBUILDER_H

#include "pfcn/Codegen/ThreadBuilder.h"

namespace mlir::pfcn {

/// Features that the four threads of a row hold in equal runs: `length` from `base + length * t` on. Each pair of a
/// run is one column of 8 of a product, and half of a step of 16 along its depth.
struct FeatureRun {
  int64_t base, length;

  int64_t getPairs() const { return length / 2; }
  int64_t getEnd() const { return base + 4 * length; }
};

class FragmentBuilder final : public ThreadBuilder {
public:
  static constexpr int64_t rowsOfProduct = 16, rowsApart = 8, columnsOfProduct = 8;

  /// `bytes` of the elements that are multiplied: a run is what one access takes of them.
  FragmentBuilder(OpBuilder at, Location loc, int64_t rows, int64_t warps, int64_t bytes)
      : ThreadBuilder(at, loc, rows, warps), bytes(bytes) {}

  /// The runs of a dimension of `features`: as few pairs as there are multiples of 8, save where another gives wide
  /// accesses.
  static SmallVector<FeatureRun> getRuns(int64_t features, int64_t bytes);
  SmallVector<FeatureRun> getRuns(int64_t features) const { return getRuns(features, bytes); }
  /// How many pairs of them a thread holds.
  static int64_t countPairs(int64_t features, int64_t bytes);
  int64_t countPairs(int64_t features) const { return countPairs(features, bytes); }

  void enter(gpu::GPUFuncOp function) override;
  void setActive(OpFoldResult active) override;
  Type getLaneType(Type element) override { return VectorType::get({2}, element); }
  Value broadcast(Value value) override;

  // Arithmetic with the known part last, where it is a part of the instruction that accesses memory: an address in
  // registers of its own would take two of them for each access.
  OpFoldResult sum(OpFoldResult a, OpFoldResult b);
  OpFoldResult scale(OpFoldResult value, OpFoldResult factor);

  /// The `i`th row of this thread; where there is no such row, the last one there is.
  Value getRow(unsigned i) { return rows[i]; }
  /// Emits `body` for threads that have an `i`th row.
  void ifRow(unsigned i, function_ref<void()> body);
  /// The same for one thread of those that share a row.
  void ifFirstMember(function_ref<void()> body);

  /// Loads the pairs of a run from the row of `features` at `address`, `width` elements at a time. What
  /// lies behind the last feature is any other of the row.
  SmallVector<Value> loadRun(const Buffer &buffer, OpFoldResult address, OpFoldResult stride, FeatureRun run,
                             int64_t features, int64_t width);
  void storeRun(ArrayRef<Value> pairs, const Buffer &buffer, OpFoldResult address, OpFoldResult stride, FeatureRun run,
                int64_t features, int64_t width);
  /// Which features of a pair there are; null where all threads have both.
  Value getMask(FeatureRun run, int64_t pair, int64_t features);
  /// `pair` where there are such features, `other` elsewhere.
  Value selectFeatures(FeatureRun run, int64_t index, int64_t features, Value pair, Value other);

  /// The column of a product that this thread brings as the right operand: feature `run.base`, … as its accumulators
  /// are laid out. Behind the last one it is the last.
  OpFoldResult getColumn(FeatureRun run, int64_t pair, int64_t features);

  /// A value of each thread combined with those of the others that share its row.
  Value combineRow(Value value, function_ref<Value(Value, Value)> combine);

  Value getZero(Type type);
  Value getElement(Value pair, int64_t index);
  Value makePair(Value first, Value second);

private:
  OpFoldResult getFeature(FeatureRun run, int64_t offset);
  Value exchange(Value value, int32_t distance);
  Value compareBelow(Value index, int64_t limit);
  void emitIf(Value condition, function_ref<void()> body);

  int64_t bytes;
  /// Which of the eight rows, and of the four threads that share it, this thread is.
  Value group, member;
  Value activeRows;
  SmallVector<Value> rows;
};

} // namespace mlir::pfcn

#endif // PFCN_CODEGEN_FRAGMENTBUILDER_H
