//===- DifferentiableOpInterface.td - the gradient of an op -----*- tablegen -*-===//
//
// Differentiation is the op's own business: the pass asks, and has no switch over op names.
//
//===---------------------------------------------------------------------------===//

#ifndef PFCN_DIFFERENTIABLE_OP_INTERFACE_TD
#define PFCN_DIFFERENTIABLE_OP_INTERFACE_TD

include "mlir/IR/OpBase.td"

def Pfcn_DifferentiableOpInterface : OpInterface<"DifferentiableOpInterface"> {
  let cppNamespace = "::mlir::pfcn";
  let description = [{
    The vector-Jacobian product of one op of the body of `pfcn.instances`, equal to that of torch's own
    backward, at kinks and ties too.
  }];
  let methods = [
    InterfaceMethod<[{
        Builds the gradients of the operands from `upstream`, the gradient of the result. One value
        per operand, of its type; null where no gradient flows to it, or where `wanted` says that nobody asks
        for it. Operands and result may be read. Fails where the op has no gradient here.
      }],
      "::mlir::FailureOr<::llvm::SmallVector<::mlir::Value>>", "vjp",
      (ins "::mlir::OpBuilder &":$builder, "::mlir::Value":$upstream, "::llvm::ArrayRef<bool>":$wanted)>
  ];
}

#endif // PFCN_DIFFERENTIABLE_OP_INTERFACE_TD
