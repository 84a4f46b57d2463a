//===- PfcnDialect.td - the pfcn dialect and its attributes -----*- tablegen -*-===//
//
// One op per torch op, value semantics, ranked tensors of builtin element types.
// Weights are named parameters, never inlined constants.
//
//===---------------------------------------------------------------------------===//

#ifndef PFCN_DIALECT_TD
#define PFCN_DIALECT_TD

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"
include "mlir/IR/OpBase.td"

def Pfcn_Dialect : Dialect {
  let name = "pfcn";
  let cppNamespace = "::mlir::pfcn";
  let summary = "Torch models as value-semantic tensor ops, and groups of their isomorphic parts";
  let description = [{
    Front ends import a model as one `pfcn` op per torch op. Detection gathers
    isomorphic, independent parts into `pfcn.instances`; batching turns each
    such group into one isolated `pfcn.kernel`, whose body carries the
    instance dimension first; the back ends lower that region to one kernel.
  }];
  let useDefaultAttributePrinterParser = 1;
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::tensor::TensorDialect"
  ];
  let hasConstantMaterializer = 1;
}

def Pfcn_AccessAttr : AttrDef<Pfcn_Dialect, "Access"> {
  let mnemonic = "access";
  let summary = "how one operand or result of a group varies with the instance";
  let description = [{
    - `#pfcn.access<shared>`: every instance sees the whole tensor.
    - `#pfcn.access<slice dim 1 size 20 stride 20 offset 0>`: instance i sees
      elements `[offset + i * stride, offset + i * stride + size)` of `dim`.
    - `#pfcn.access<select dim 0 stride 1 offset 0>`: instance i sees element
      `offset + i * stride` of `dim`, which is dropped. A stacked tensor of
      *own* operands is the select of dimension 0.
    - `... at [7, 3, 9]` in place of stride and offset: a table of starts, for
      instances whose starts are in no arithmetic progression.

    `stride` and `offset` default to 1 and 0.
  }];
  let parameters = (ins
    "::mlir::pfcn::AccessKind":$kind, "int64_t":$dim, "int64_t":$size,
    "int64_t":$stride, "int64_t":$offset, OptionalArrayRefParameter<"int64_t">:$table);
  let extraClassDeclaration = [{
    static AccessAttr getShared(::mlir::MLIRContext *context);
    static AccessAttr getSelect(::mlir::MLIRContext *context, int64_t dim,
                                int64_t stride = 1, int64_t offset = 0);
    static AccessAttr getSlice(::mlir::MLIRContext *context, int64_t dim, int64_t size,
                               int64_t stride, int64_t offset);
    /// The access for the given starts: an arithmetic progression where they are one,
    /// a table otherwise. `size` < 0 asks for a select.
    static AccessAttr getForStarts(::mlir::MLIRContext *context, int64_t dim, int64_t size,
                                   ::llvm::ArrayRef<int64_t> starts);

    bool isShared() const { return getKind() == AccessKind::Shared; }
    bool isSelect() const { return getKind() == AccessKind::Select; }
    bool isSlice() const { return getKind() == AccessKind::Slice; }
    bool isAffine() const { return getTable().empty(); }
    /// Where instance `i` starts along `dim`.
    int64_t getStart(int64_t i) const {
      return isAffine() ? getOffset() + i * getStride() : getTable()[i];
    }
    /// What one instance sees of a tensor of type `whole`.
    ::mlir::RankedTensorType getInstanceType(::mlir::RankedTensorType whole) const;
    /// The same for all `count` instances: a leading instance dimension, or the
    /// whole tensor where it is shared.
    ::mlir::RankedTensorType getBatchedType(::mlir::RankedTensorType whole,
                                            int64_t count) const;
    /// Whether `count` instances stay inside a tensor of type `whole`. `sizes`: what each has of a slice that is
    /// padded behind it.
    ::mlir::LogicalResult verifyFits(::llvm::function_ref<::mlir::InFlightDiagnostic()> emitError,
                                     ::mlir::RankedTensorType whole, int64_t count,
                                     ::llvm::ArrayRef<int64_t> sizes = {}) const;
  }];
  let hasCustomAssemblyFormat = 1;
}

def Pfcn_AccessArrayAttr : TypedArrayAttrBase<Pfcn_AccessAttr, "one access per operand">;

#endif // PFCN_DIALECT_TD
