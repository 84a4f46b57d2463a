//===- MmaKernel.h - a kernel on tensor cores ------------------------------*- C++ -*-===//
//
// A warp takes a tile of rows of one instance through all ops of the body. What is computed stays in registers, in the
// layout of FragmentBuilder: the result of one product is the operand of the next. Weights are read where they lie, and
// the warps of a block, which take neighbouring tiles, find them in L1.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_CODEGEN_MMAKERNEL_H
#define PFCN_CODEGEN_MMAKERNEL_H

#include "pfcn/Codegen/FragmentBuilder.h"
#include "pfcn/Codegen/GpuFrame.h"
#include "pfcn/Codegen/MmaSchedule.h"

namespace mlir::pfcn {

class MmaKernel final : public GpuFrame {
public:
  MmaKernel(KernelOp kernel, const ParallelDims &dims, const MmaSchedule &choice, const EmitOptions &options,
            const TensorCores &cores, OpBuilder at)
      : GpuFrame(kernel, dims, choice.schedule, options, choice.warps, lanes),
        lanes(at, kernel.getLoc(), choice.schedule.lanes, choice.warps, choice.element.getIntOrFloatBitWidth() / 8),
        cores(cores), hasManyValues(choice.hasManyValues()) {}

private:
  /// One pair of features of one row of a thread.
  struct Slot {
    int64_t row, pair;
  };
  /// What a thread has of a value.
  struct Fragment {
    FragmentShape shape;
    SmallVector<FeatureRun> runs;
    /// Counts of the slots; 1 where the value has no such dimension.
    int64_t rows = 1, pairs = 1;
    SmallVector<Value> values;

    Value &at(Slot slot) { return values[(rows == 1 ? 0 : slot.row) * pairs + (pairs == 1 ? 0 : slot.pair)]; }
  };

  void emitTiles() override;
  void setInsertionPointToScratch() override;
  void emitArgument(BlockArgument argument) override {} // read by the ops where it lies
  void emitOp(Operation *op) override;
  void emitGeneric(linalg::GenericOp op) override;
  void emitView(Operation *op) override;
  void emitYield(unsigned result) override;
  Value loadOperand(Value value, AffineMap map, ArrayRef<OpFoldResult> indices) override;

  // Fragments.
  int64_t getRowsOfThread() const { return schedule.lanes / FragmentBuilder::rowsApart; }
  FailureOr<Fragment> makeFragment(Value value);
  void setFragment(Value value, Fragment fragment);
  /// A value of a slot: of an op's result, or of an argument, which is loaded as a whole at its first use.
  Value getSlot(Value value, Slot slot);
  void load(Value value, Fragment &fragment);

  // Memory.
  Value checkAlignment();
  int64_t getWidth(const Buffer &buffer, Value value, const FragmentShape &shape);
  OpFoldResult getRowAddress(const Buffer &buffer, Value value, bool hasRows, int64_t row);

  // Ops.
  void emitElementwise(linalg::GenericOp op);
  void emitReduction(linalg::GenericOp op);
  void emitProduct(linalg::GenericOp op, const Product &product);
  SmallVector<Value> takeRows(const Product &product);
  SmallVector<Value> loadColumn(const Product &product, OpFoldResult column);
  SmallVector<Value> multiply(const Product &product, ArrayRef<Value> rows, ArrayRef<Value> column,
                              SmallVector<Value> sums);
  Value emitMma(Type element, ArrayRef<Value> rows, ArrayRef<Value> column, ValueRange sums);

  FragmentBuilder lanes;
  TensorCores cores;
  bool hasManyValues;
  DenseMap<Value, Fragment> fragments;
  /// The slot whose payload is being computed.
  Slot current{0, 0};
  /// How many elements of a tensor of the caller can be accessed at once, by its memory; 1 where that is unknown.
  DenseMap<Value, int64_t> widths;
};

} // namespace mlir::pfcn

#endif // PFCN_CODEGEN_MMAKERNEL_H
