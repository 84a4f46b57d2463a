//===- BatchingOpInterface.td - how an op takes an instance dimension -*- tablegen -*-===//
//
// Batching is the op's own business: the pass asks, and has no switch over op names.
//
//===---------------------------------------------------------------------------------===//

#ifndef PFCN_BATCHING_OP_INTERFACE_TD
#define PFCN_BATCHING_OP_INTERFACE_TD

include "mlir/IR/OpBase.td"

def Pfcn_BatchingOpInterface : OpInterface<"BatchingOpInterface"> {
  let cppNamespace = "::mlir::pfcn";
  let description = [{
    Rewrites one op of the body of `pfcn.instances` for all instances at once.
    An operand that differs between instances carries them in a leading
    dimension of size `count`; one that does not is passed as it is. At least
    one operand is batched.
  }];
  let methods = [
    InterfaceMethod<[{
        Builds the op (or ops) that compute this op for every instance, and
        returns one value per result, each with the leading instance dimension.
        Fails, building nothing, where the op cannot be batched.
      }],
      "::mlir::FailureOr<::llvm::SmallVector<::mlir::Value>>", "batch",
      (ins "::mlir::OpBuilder &":$builder,
           "::llvm::ArrayRef<::mlir::pfcn::BatchedValue>":$operands,
           "int64_t":$count)>
  ];
}

#endif // PFCN_BATCHING_OP_INTERFACE_TD
