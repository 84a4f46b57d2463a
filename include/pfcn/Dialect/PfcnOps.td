//===- PfcnOps.td - the operations of the pfcn dialect ----------*- tablegen -*-===//
//
// In the order in which a model meets them: leaves, pointwise, contractions,
// reductions and normalisations, views and joins, foreign operators, groups.
// Semantics are torch's: broadcasting, negative dimensions already resolved.
//
//===---------------------------------------------------------------------------===//

#ifndef PFCN_OPS_TD
#define PFCN_OPS_TD

include "mlir/IR/OpAsmInterface.td"
include "mlir/IR/RegionKindInterface.td"
include "mlir/Interfaces/ControlFlowInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "pfcn/Dialect/BatchingOpInterface.td"
include "pfcn/Dialect/DifferentiableOpInterface.td"
include "pfcn/Dialect/PfcnDialect.td"

def Pfcn_Float : TensorOf<[AnyFloat]>;
// UI8 is torch.uint8, which no op computes with.
def Pfcn_Tensor : TensorOf<[AnyFloat, AnySignlessInteger, UI8, AnyComplex]>;
def Pfcn_Bool : TensorOf<[I1]>;

class Pfcn_Op<string mnemonic, list<Trait> traits = []> : Op<Pfcn_Dialect, mnemonic, traits>;

// An op of the body of an instance: pure, with a batching rule and a gradient.
class Pfcn_ComputeOp<string mnemonic, list<Trait> traits = []>
    : Pfcn_Op<mnemonic, !listconcat([Pure, DeclareOpInterfaceMethods<Pfcn_BatchingOpInterface>,
                                      DeclareOpInterfaceMethods<Pfcn_DifferentiableOpInterface>], traits)>;

// The same, with a result type that follows from the operands and attributes.
class Pfcn_InferredOp<string mnemonic, list<Trait> traits = []>
    : Pfcn_ComputeOp<mnemonic, !listconcat([InferTypeOpAdaptor], traits)>;

//===---------------------------------------------------------------------------===//
// Leaves
//===---------------------------------------------------------------------------===//

def Pfcn_ParameterOp : Pfcn_Op<"parameter", [Pure]> {
  let summary = "a parameter or buffer of the model, by its torch path";
  let description = [{
    ```mlir
    %w = pfcn.parameter "models.0.0.weight" : tensor<10x20xf32>
    ```
  }];
  let arguments = (ins StrAttr:$path);
  let results = (outs Pfcn_Tensor:$result);
  let assemblyFormat = "$path attr-dict `:` type($result)";
}

def Pfcn_ParameterStackOp : Pfcn_Op<"parameter_stack", [Pure]> {
  let summary = "the one home of n parameters of equal shape: a stacked tensor";
  let description = [{
    ```mlir
    %w = pfcn.parameter_stack ["models.0.weight", "models.1.weight"] : tensor<2x10x20xf32>
    ```

    With `sizes`, parameter i has `sizes[i]` elements of dimension `dim` of the stack, and zeros stand behind them
    (decision P of docs/Rationale.md). Such a stack is no home: it is filled for each call, unless weights are frozen.

    ```mlir
    %w = pfcn.parameter_stack ["a.weight", "b.weight"] dim 2 sizes [3, 20] : tensor<2x10x20xf32>
    ```
  }];
  let arguments = (ins StrArrayAttr:$paths, OptionalAttr<I64Attr>:$dim, OptionalAttr<DenseI64ArrayAttr>:$sizes);
  let results = (outs Pfcn_Tensor:$result);
  let assemblyFormat = "$paths (`dim` $dim^ `sizes` $sizes)? attr-dict `:` type($result)";
  let hasVerifier = 1;
}

def Pfcn_ConstantOp : Pfcn_Op<"constant", [Pure, ConstantLike, AllTypesMatch<["value", "result"]>]> {
  let summary = "a constant tensor; scalars of the torch call are of rank 0";
  let arguments = (ins ElementsAttr:$value);
  let results = (outs Pfcn_Tensor:$result);
  let assemblyFormat = "$value attr-dict";
  let hasFolder = 1;
}

//===---------------------------------------------------------------------------===//
// Pointwise
//===---------------------------------------------------------------------------===//

def Pfcn_Pointwise : NativeOpTrait<"Pointwise"> {
  let cppNamespace = "::mlir::pfcn";
}

// An op that broadcasts: batched by aligning its operands to the rank of the body.
class Pfcn_PointwiseOp<string mnemonic, list<Trait> traits>
    : Pfcn_ComputeOp<mnemonic, !listconcat([Pfcn_Pointwise], traits)> {
  code pointwise = [{
    ::mlir::FailureOr<::llvm::SmallVector<::mlir::Value>>
    $cppClass::batch(::mlir::OpBuilder &builder, ::llvm::ArrayRef<::mlir::pfcn::BatchedValue> operands, int64_t count) {
      return ::mlir::pfcn::batchPointwise(*this, builder, operands, count);
    }
  }];
  let extraClassDefinition = pointwise;
}

// What each computes is one line of lib/Conversion/PfcnToLinalg/Pointwise.cpp.
class Pfcn_UnaryOp<string mnemonic, string what, list<Trait> traits = []>
    : Pfcn_PointwiseOp<mnemonic, !listconcat([SameOperandsAndResultType, Elementwise], traits)> {
  let summary = "elementwise: " # what;
  let arguments = (ins Pfcn_Tensor:$input);
  let results = (outs Pfcn_Tensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($result)";
}

def Pfcn_NegOp : Pfcn_UnaryOp<"neg", "-x">;
def Pfcn_AbsOp : Pfcn_UnaryOp<"abs", "|x|">;
def Pfcn_SignOp : Pfcn_UnaryOp<"sign", "the sign of x">;
def Pfcn_ReluOp : Pfcn_UnaryOp<"relu", "max(x, 0), NaN propagates">;
def Pfcn_ExpOp : Pfcn_UnaryOp<"exp", "e^x">;
def Pfcn_Expm1Op : Pfcn_UnaryOp<"expm1", "e^x - 1">;
def Pfcn_LogOp : Pfcn_UnaryOp<"log", "the natural logarithm">;
def Pfcn_Log1pOp : Pfcn_UnaryOp<"log1p", "log(1 + x)">;
def Pfcn_SqrtOp : Pfcn_UnaryOp<"sqrt", "the square root">;
def Pfcn_RsqrtOp : Pfcn_UnaryOp<"rsqrt", "1 / sqrt(x)">;
def Pfcn_ReciprocalOp : Pfcn_UnaryOp<"reciprocal", "1 / x">;
def Pfcn_TanhOp : Pfcn_UnaryOp<"tanh", "the hyperbolic tangent">;
def Pfcn_SigmoidOp : Pfcn_UnaryOp<"sigmoid", "1 / (1 + e^-x)">;
def Pfcn_SiluOp : Pfcn_UnaryOp<"silu", "x * sigmoid(x)">;
def Pfcn_MishOp : Pfcn_UnaryOp<"mish", "x * tanh(softplus(x))">;
def Pfcn_ErfOp : Pfcn_UnaryOp<"erf", "the error function">;
def Pfcn_SinOp : Pfcn_UnaryOp<"sin", "the sine">;
def Pfcn_CosOp : Pfcn_UnaryOp<"cos", "the cosine">;
def Pfcn_TanOp : Pfcn_UnaryOp<"tan", "the tangent">;
def Pfcn_AsinOp : Pfcn_UnaryOp<"asin", "the inverse sine">;
def Pfcn_AcosOp : Pfcn_UnaryOp<"acos", "the inverse cosine">;
def Pfcn_AtanOp : Pfcn_UnaryOp<"atan", "the inverse tangent">;
def Pfcn_SinhOp : Pfcn_UnaryOp<"sinh", "the hyperbolic sine">;
def Pfcn_CoshOp : Pfcn_UnaryOp<"cosh", "the hyperbolic cosine">;
def Pfcn_AsinhOp : Pfcn_UnaryOp<"asinh", "the inverse hyperbolic sine">;
def Pfcn_AcoshOp : Pfcn_UnaryOp<"acosh", "the inverse hyperbolic cosine">;
def Pfcn_AtanhOp : Pfcn_UnaryOp<"atanh", "the inverse hyperbolic tangent">;
def Pfcn_Exp2Op : Pfcn_UnaryOp<"exp2", "2^x">;
def Pfcn_Log2Op : Pfcn_UnaryOp<"log2", "the logarithm to base 2">;
def Pfcn_Log10Op : Pfcn_UnaryOp<"log10", "the logarithm to base 10">;
def Pfcn_ErfcOp : Pfcn_UnaryOp<"erfc", "1 - erf(x)">;
def Pfcn_FloorOp : Pfcn_UnaryOp<"floor", "the floor">;
def Pfcn_CeilOp : Pfcn_UnaryOp<"ceil", "the ceiling">;
def Pfcn_TruncOp : Pfcn_UnaryOp<"trunc", "rounded towards zero">;
def Pfcn_RoundOp : Pfcn_UnaryOp<"round", "rounded to the nearest integer, ties to even">;
def Pfcn_HardswishOp : Pfcn_UnaryOp<"hardswish", "x * clamp(x + 3, 0, 6) / 6">;
def Pfcn_HardsigmoidOp : Pfcn_UnaryOp<"hardsigmoid", "clamp(x + 3, 0, 6) / 6">;
def Pfcn_LogSigmoidOp : Pfcn_UnaryOp<"log_sigmoid", "log(sigmoid(x))">;

def Pfcn_DetachOp : Pfcn_UnaryOp<"detach", "x itself, through which no gradient flows">;

def Pfcn_LeakyReluOp : Pfcn_UnaryOp<"leaky_relu", "x where positive, else slope * x"> {
  let arguments = (ins Pfcn_Float:$input, F64Attr:$negative_slope);
}
def Pfcn_EluOp : Pfcn_UnaryOp<"elu", "scale * (x > 0 ? x : alpha * (e^(input_scale * x) - 1))"> {
  let arguments = (ins Pfcn_Float:$input, F64Attr:$alpha, DefaultValuedAttr<F64Attr, "1.0">:$scale,
                       DefaultValuedAttr<F64Attr, "1.0">:$input_scale);
}
def Pfcn_SoftplusOp : Pfcn_UnaryOp<"softplus", "log(1 + e^(beta x)) / beta, x itself where beta x > threshold"> {
  let arguments = (ins Pfcn_Float:$input, DefaultValuedAttr<F64Attr, "1.0">:$beta,
                       DefaultValuedAttr<F64Attr, "20.0">:$threshold);
}
def Pfcn_GeluOp : Pfcn_UnaryOp<"gelu", "x * Phi(x), exact or by tanh"> {
  let arguments = (ins Pfcn_Float:$input, DefaultValuedAttr<BoolAttr, "false">:$tanh_approximation);
}
def Pfcn_ClampOp : Pfcn_UnaryOp<"clamp", "x limited to [min, max], NaN propagates"> {
  let arguments = (ins Pfcn_Float:$input, OptionalAttr<F64Attr>:$min, OptionalAttr<F64Attr>:$max);
}

def Pfcn_CastOp : Pfcn_PointwiseOp<"cast", [SameOperandsAndResultShape, Elementwise]> {
  let summary = "elementwise: the value in another element type, as torch converts it";
  let arguments = (ins Pfcn_Tensor:$input);
  let results = (outs Pfcn_Tensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `to` type($result)";
  let hasFolder = 1;
}

class Pfcn_BinaryOp<string mnemonic, string what, list<Trait> traits = []>
    : Pfcn_PointwiseOp<mnemonic, !listconcat([InferTypeOpAdaptor, SameOperandsAndResultElementType], traits)> {
  let summary = "elementwise with broadcasting: " # what;
  let arguments = (ins Pfcn_Tensor:$lhs, Pfcn_Tensor:$rhs);
  let results = (outs Pfcn_Tensor:$result);
  let assemblyFormat = "$lhs `,` $rhs attr-dict `:` type($lhs) `,` type($rhs) `->` type($result)";
  let extraClassDefinition = pointwise # [{
    ::llvm::LogicalResult $cppClass::inferReturnTypes(::mlir::MLIRContext *, ::std::optional<::mlir::Location> loc,
                                                      Adaptor adaptor, ::llvm::SmallVectorImpl<::mlir::Type> &types) {
      return ::mlir::pfcn::inferBroadcast(loc, {adaptor.getLhs(), adaptor.getRhs()},
                                          ::mlir::getElementTypeOrSelf(adaptor.getLhs()), types);
    }
  }];
}

def Pfcn_AddOp : Pfcn_BinaryOp<"add", "x + y", [Commutative]>;
def Pfcn_SubOp : Pfcn_BinaryOp<"sub", "x - y">;
def Pfcn_MulOp : Pfcn_BinaryOp<"mul", "x * y", [Commutative]>;
def Pfcn_DivOp : Pfcn_BinaryOp<"div", "x / y, true division">;
def Pfcn_PowOp : Pfcn_BinaryOp<"pow", "x to the power of y">;
def Pfcn_MaximumOp : Pfcn_BinaryOp<"maximum", "the larger, NaN propagates", [Commutative]>;
def Pfcn_MinimumOp : Pfcn_BinaryOp<"minimum", "the smaller, NaN propagates", [Commutative]>;

def Pfcn_Atan2Op : Pfcn_BinaryOp<"atan2", "the angle of the point (y, x)">;
def Pfcn_FmodOp : Pfcn_BinaryOp<"fmod", "the rest of x / y, with the sign of x">;
def Pfcn_RemainderOp : Pfcn_BinaryOp<"remainder", "the rest of x / y, with the sign of y">;
def Pfcn_CopysignOp : Pfcn_BinaryOp<"copysign", "|x| with the sign of y">;
def Pfcn_BitwiseAndOp : Pfcn_BinaryOp<"bitwise_and", "the bits of x and y", [Commutative]>;
def Pfcn_BitwiseOrOp : Pfcn_BinaryOp<"bitwise_or", "the bits of x or y", [Commutative]>;
def Pfcn_BitwiseXorOp : Pfcn_BinaryOp<"bitwise_xor", "the bits of either x or y", [Commutative]>;

def Pfcn_CmpEq : I32EnumAttrCase<"eq", 0>;
def Pfcn_CmpNe : I32EnumAttrCase<"ne", 1>;
def Pfcn_CmpLt : I32EnumAttrCase<"lt", 2>;
def Pfcn_CmpLe : I32EnumAttrCase<"le", 3>;
def Pfcn_CmpGt : I32EnumAttrCase<"gt", 4>;
def Pfcn_CmpGe : I32EnumAttrCase<"ge", 5>;
def Pfcn_Predicate : I32EnumAttr<"Predicate", "an ordered comparison",
    [Pfcn_CmpEq, Pfcn_CmpNe, Pfcn_CmpLt, Pfcn_CmpLe, Pfcn_CmpGt, Pfcn_CmpGe]> {
  let cppNamespace = "::mlir::pfcn";
  let genSpecializedAttr = 0;
}
def Pfcn_PredicateAttr : EnumAttr<Pfcn_Dialect, Pfcn_Predicate, "predicate">;

def Pfcn_CompareOp : Pfcn_PointwiseOp<"compare", [InferTypeOpAdaptor, AllElementTypesMatch<["lhs", "rhs"]>]> {
  let summary = "elementwise comparison with broadcasting";
  let arguments = (ins Pfcn_PredicateAttr:$predicate, Pfcn_Tensor:$lhs, Pfcn_Tensor:$rhs);
  let results = (outs Pfcn_Bool:$result);
  let assemblyFormat = "$predicate $lhs `,` $rhs attr-dict `:` type($lhs) `,` type($rhs) `->` type($result)";
}

def Pfcn_WhereOp : Pfcn_PointwiseOp<"where", [InferTypeOpAdaptor, AllElementTypesMatch<["lhs", "rhs"]>]> {
  let summary = "elementwise choice with broadcasting";
  let arguments = (ins Pfcn_Bool:$condition, Pfcn_Tensor:$lhs, Pfcn_Tensor:$rhs);
  let results = (outs Pfcn_Tensor:$result);
  let assemblyFormat = [{
    $condition `,` $lhs `,` $rhs attr-dict `:` type($condition) `,` type($lhs) `,` type($rhs) `->` type($result)
  }];
}

//===---------------------------------------------------------------------------===//
// Contractions
//===---------------------------------------------------------------------------===//

def Pfcn_LinearOp : Pfcn_InferredOp<"linear"> {
  let summary = "x @ weight^T + bias";
  let description = [{ `input` [..., K], `weight` [O, K], `bias` [O]; result [..., O]. }];
  let arguments = (ins Pfcn_Float:$input, Pfcn_Float:$weight, Optional<Pfcn_Float>:$bias);
  let results = (outs Pfcn_Float:$result);
  let assemblyFormat = [{
    $input `,` $weight (`,` $bias^)? attr-dict `:` type($input) `,` type($weight) (`,` type($bias)^)? `->` type($result)
  }];
}

def Pfcn_MatmulOp : Pfcn_InferredOp<"matmul"> {
  let summary = "torch.matmul of operands of rank 2 or more; leading dimensions broadcast";
  let arguments = (ins Pfcn_Float:$lhs, Pfcn_Float:$rhs);
  let results = (outs Pfcn_Float:$result);
  let assemblyFormat = "$lhs `,` $rhs attr-dict `:` type($lhs) `,` type($rhs) `->` type($result)";
}

def Pfcn_AddmmOp : Pfcn_InferredOp<"addmm"> {
  let summary = "beta * input + alpha * (lhs @ rhs); rank 2 (addmm) or 3 (baddbmm)";
  let arguments = (ins Pfcn_Float:$input, Pfcn_Float:$lhs, Pfcn_Float:$rhs,
                       DefaultValuedAttr<F64Attr, "1.0">:$beta, DefaultValuedAttr<F64Attr, "1.0">:$alpha);
  let results = (outs Pfcn_Float:$result);
  let assemblyFormat = [{
    $input `,` $lhs `,` $rhs attr-dict `:` type($input) `,` type($lhs) `,` type($rhs) `->` type($result)
  }];
}

def Pfcn_BatchMatmulOp : Pfcn_InferredOp<"batch_matmul"> {
  let summary = "a matmul for every instance at once";
  let description = [{
    `lhs` [*B, M, K] and `rhs` [*B, K, N], or [*B, N, K] with `transpose_rhs`;
    the leading dimensions broadcast as in torch.matmul, and the first of them is
    the instance. An operand without it is shared by all.

    ```mlir
    %y = pfcn.batch_matmul %x, %w {transpose_rhs} : tensor<1000x1x20xf32>, tensor<1000x10x20xf32> -> tensor<1000x1x10xf32>
    ```
  }];
  let arguments = (ins Pfcn_Float:$lhs, Pfcn_Float:$rhs, UnitAttr:$transpose_rhs);
  let results = (outs Pfcn_Float:$result);
  let assemblyFormat = "$lhs `,` $rhs attr-dict `:` type($lhs) `,` type($rhs) `->` type($result)";
}

def Pfcn_ConvOp : Pfcn_InferredOp<"conv"> {
  let summary = "convolution over as many dimensions as `stride` has entries, or its transpose";
  let description = [{
    `input` [N, C, *S], `weight` [O, C / groups, *K], or [C, O / groups, *K] where `transposed`, `bias` [O];
    result [N, O, *S']. Each operand may carry a leading instance dimension; the result then does.

    ```mlir
    %y = pfcn.conv %x, %w {stride = array<i64: 1>, padding = array<i64: 0>, dilation = array<i64: 1>}
      : tensor<2x3x9xf32>, tensor<4x3x2xf32> -> tensor<2x4x8xf32>
    ```
  }];
  let arguments = (ins Pfcn_Float:$input, Pfcn_Float:$weight, Optional<Pfcn_Float>:$bias, DenseI64ArrayAttr:$stride,
                       DenseI64ArrayAttr:$padding, DenseI64ArrayAttr:$dilation,
                       DefaultValuedAttr<I64Attr, "1">:$groups, UnitAttr:$transposed,
                       DefaultValuedAttr<DenseI64ArrayAttr, "{}">:$output_padding);
  let results = (outs Pfcn_Float:$result);
  let assemblyFormat = [{
    $input `,` $weight (`,` $bias^)? attr-dict `:` type($input) `,` type($weight) (`,` type($bias)^)? `->` type($result)
  }];
}

//===---------------------------------------------------------------------------===//
// Reductions and normalisations
//===---------------------------------------------------------------------------===//

class Pfcn_ReductionOp<string mnemonic, string what> : Pfcn_InferredOp<mnemonic> {
  let summary = "over the dimensions `dims`: " # what;
  let arguments = (ins Pfcn_Tensor:$input, DenseI64ArrayAttr:$dims, DefaultValuedAttr<BoolAttr, "false">:$keepdim);
  let results = (outs Pfcn_Tensor:$result);
  let assemblyFormat = "$input `dims` $dims attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
}

def Pfcn_SumOp : Pfcn_ReductionOp<"sum", "the sum">;
def Pfcn_MeanOp : Pfcn_ReductionOp<"mean", "the mean">;
def Pfcn_AmaxOp : Pfcn_ReductionOp<"amax", "the largest, NaN propagates">;
def Pfcn_AminOp : Pfcn_ReductionOp<"amin", "the smallest, NaN propagates">;
def Pfcn_ProdOp : Pfcn_ReductionOp<"prod", "the product">;

class Pfcn_SoftmaxLikeOp<string mnemonic, string what>
    : Pfcn_ComputeOp<mnemonic, [SameOperandsAndResultType]> {
  let summary = what # " over dimension `dim`";
  let arguments = (ins Pfcn_Float:$input, I64Attr:$dim);
  let results = (outs Pfcn_Float:$result);
  let assemblyFormat = "$input `dim` $dim attr-dict `:` type($result)";
  let hasVerifier = 1;
}

def Pfcn_SoftmaxOp : Pfcn_SoftmaxLikeOp<"softmax", "softmax">;
def Pfcn_LogSoftmaxOp : Pfcn_SoftmaxLikeOp<"log_softmax", "the logarithm of softmax">;

def Pfcn_LayerNormOp : Pfcn_ComputeOp<"layer_norm", [AttrSizedOperandSegments, AllTypesMatch<["input", "result"]>]> {
  let summary = "normalisation over the last `normalized_rank` dimensions";
  let description = [{
    (x - mean) / sqrt(var + eps) * weight + bias with the biased variance. `weight` and `bias`
    have the shape of the normalised dimensions; in a batched body they may carry a
    leading instance dimension (and then dimensions of size 1 up to the normalised ones).
  }];
  let arguments = (ins Pfcn_Float:$input, Optional<Pfcn_Float>:$weight, Optional<Pfcn_Float>:$bias,
                       I64Attr:$normalized_rank, F64Attr:$eps);
  let results = (outs Pfcn_Float:$result);
  let assemblyFormat = [{
    $input (`weight` $weight^ `:` type($weight))? (`bias` $bias^ `:` type($bias))? attr-dict `:` type($result)
  }];
  let hasVerifier = 1;
}

def Pfcn_BatchNormOp : Pfcn_ComputeOp<"batch_norm", [AttrSizedOperandSegments, AllTypesMatch<["input", "result"]>]> {
  let summary = "normalisation of each channel with given statistics";
  let description = [{
    (x - mean) / sqrt(variance + eps) * weight + bias. The other operands have one element per channel, which is
    dimension `channel` of the input, and may carry a leading instance dimension, which is then the input's too.
  }];
  let arguments = (ins Pfcn_Float:$input, Pfcn_Float:$mean, Pfcn_Float:$variance, Optional<Pfcn_Float>:$weight,
                       Optional<Pfcn_Float>:$bias, I64Attr:$channel, F64Attr:$eps);
  let results = (outs Pfcn_Float:$result);
  let assemblyFormat = [{
    $input `,` $mean `,` $variance (`weight` $weight^ `:` type($weight))? (`bias` $bias^ `:` type($bias))? attr-dict
    `:` type($result) `,` type($mean) `,` type($variance)
  }];
  let hasVerifier = 1;
}

//===---------------------------------------------------------------------------===//
// Windows
//===---------------------------------------------------------------------------===//

class Pfcn_PoolOp<string mnemonic, string what> : Pfcn_InferredOp<mnemonic> {
  let summary = what # " of each window over the last dimensions";
  let description = [{
    Windows of `kernel` over the last dimensions, which have `padding` before and behind them; with
    `ceil_mode` a last window may reach beyond that. What is outside of the input does not count.
  }];
  let results = (outs Pfcn_Float:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($result)";
}

def Pfcn_MaxPoolOp : Pfcn_PoolOp<"max_pool", "the largest, NaN propagates,"> {
  let arguments = (ins Pfcn_Float:$input, DenseI64ArrayAttr:$kernel, DenseI64ArrayAttr:$stride,
                       DenseI64ArrayAttr:$padding, DenseI64ArrayAttr:$dilation,
                       DefaultValuedAttr<BoolAttr, "false">:$ceil_mode);
}

def Pfcn_AvgPoolOp : Pfcn_PoolOp<"avg_pool", "the mean"> {
  let arguments = (ins Pfcn_Float:$input, DenseI64ArrayAttr:$kernel, DenseI64ArrayAttr:$stride,
                       DenseI64ArrayAttr:$padding, DefaultValuedAttr<BoolAttr, "false">:$ceil_mode,
                       DefaultValuedAttr<BoolAttr, "true">:$count_include_pad, OptionalAttr<I64Attr>:$divisor);
}

def Pfcn_PadOp : Pfcn_InferredOp<"pad"> {
  let summary = "`low` elements of `value` before, and `high` behind each of the last dimensions";
  let arguments = (ins Pfcn_Tensor:$input, DenseI64ArrayAttr:$low, DenseI64ArrayAttr:$high,
                       DefaultValuedAttr<F64Attr, "0.0">:$value);
  let results = (outs Pfcn_Tensor:$result);
  let assemblyFormat = "$input `low` $low `high` $high attr-dict `:` type($input) `->` type($result)";
}

//===---------------------------------------------------------------------------===//
// Recurrences
//===---------------------------------------------------------------------------===//

def Pfcn_RecurrenceOp : Pfcn_ComputeOp<"recurrence", [AttrSizedOperandSegments]> {
  let summary = "one direction of one layer of a recurrent network";
  let description = [{
    `kind` is `lstm`, `gru`, or the activation of a plain network, `tanh` or `relu`; the gates are in torch's order. The
    input is [*B, time, inputs], the states are [*B, width], the weights [gates · width, inputs or width]; in a batched
    body weights and biases may carry a leading instance dimension. The result is [*B, time, width]: the hidden state
    after each step; with `keep_cells`, the cell state behind it, [*B, time, 2 · width]. With `reverse`, time runs
    backwards.

    ```mlir
    %h = pfcn.recurrence "tanh" %x, %w, %u, %h0
        : (tensor<3x5x2xf32>, tensor<4x2xf32>, tensor<4x4xf32>, tensor<3x4xf32>) -> tensor<3x5x4xf32>
    ```
  }];
  let arguments = (ins StrAttr:$kind, Pfcn_Float:$input, Pfcn_Float:$weight, Pfcn_Float:$hidden_weight,
                       Pfcn_Float:$hidden, Optional<Pfcn_Float>:$cell, Optional<Pfcn_Float>:$bias,
                       Optional<Pfcn_Float>:$hidden_bias, UnitAttr:$reverse, UnitAttr:$keep_cells);
  let results = (outs Pfcn_Float:$result);
  let assemblyFormat = [{
    $kind $input `,` $weight `,` $hidden_weight `,` $hidden (`cell` $cell^)? (`bias` $bias^ `,` $hidden_bias)?
    (`reverse` $reverse^)? (`keep_cells` $keep_cells^)? attr-dict `:` functional-type(operands, $result)
  }];
  let extraClassDeclaration = [{
    /// How many gates a kind has; 0 for one that there is not.
    static int64_t getGateCount(::llvm::StringRef kind);
    int64_t getWidth() { return ::llvm::cast<::mlir::RankedTensorType>(getHidden().getType()).getShape().back(); }
    int64_t getSteps() { return ::llvm::cast<::mlir::RankedTensorType>(getInput().getType()).getShape().drop_back().back(); }
  }];
  let hasVerifier = 1;
}

def Pfcn_RecurrenceAdjointOp : Pfcn_ComputeOp<"recurrence_adjoint"> {
  let summary = "the gradients that a recurrence carries back through time";
  let description = [{
    `upstream` and `cell_upstream` are the gradients of the states after each step, [*B, time, width]. `factors` has, for each step,
    what a state's gradient is multiplied by for each gate, and then what else carries it on: for `lstm` the four
    gates (of the cell state but the last), from hidden to cell state, and the forget gate; for `gru` the three gates
    and the update gate. `hidden_weight` is that of the recurrence, from the gates to the step before. The result has
    for each step the gradients of the gates behind the product with the hidden state, then that of the cell state
    of an `lstm`, or of the hidden state of a `gru`. `reverse` is that of the recurrence: time runs against it.

    ```mlir
    %d = pfcn.recurrence_adjoint "tanh" %g, %factors, %u
        : (tensor<3x5x4xf32>, tensor<3x5x4xf32>, tensor<4x4xf32>) -> tensor<3x5x4xf32>
    ```
  }];
  let arguments = (ins StrAttr:$kind, Pfcn_Float:$upstream, Pfcn_Float:$factors, Pfcn_Float:$hidden_weight,
                       Optional<Pfcn_Float>:$cell_upstream, UnitAttr:$reverse);
  let results = (outs Pfcn_Float:$result);
  let assemblyFormat = [{
    $kind $upstream `,` $factors `,` $hidden_weight (`cell` $cell_upstream^)? (`reverse` $reverse^)? attr-dict
    `:` functional-type(operands, $result)
  }];
  let extraClassDeclaration = [{
    /// How many parts of the width the factors have, and the result.
    static int64_t getFactorCount(::llvm::StringRef kind);
    static int64_t getPartCount(::llvm::StringRef kind);
    int64_t getWidth() { return ::llvm::cast<::mlir::RankedTensorType>(getUpstream().getType()).getShape().back(); }
    int64_t getSteps() { return ::llvm::cast<::mlir::RankedTensorType>(getUpstream().getType()).getShape().drop_back().back(); }
  }];
  let hasVerifier = 1;
}

//===---------------------------------------------------------------------------===//
// Views and joins
//===---------------------------------------------------------------------------===//

def Pfcn_ReshapeOp : Pfcn_ComputeOp<"reshape"> {
  let summary = "the same elements in row-major order under another shape";
  let description = [{
    At most one dimension of the result is dynamic beyond the leading dimensions that it
    has in common with the input.
  }];
  let arguments = (ins Pfcn_Tensor:$input);
  let results = (outs Pfcn_Tensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `to` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Pfcn_PermuteOp : Pfcn_InferredOp<"permute"> {
  let summary = "dimension i of the result is dimension permutation[i] of the input";
  let arguments = (ins Pfcn_Tensor:$input, DenseI64ArrayAttr:$permutation);
  let results = (outs Pfcn_Tensor:$result);
  let assemblyFormat = "$input `dims` $permutation attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Pfcn_SliceOp : Pfcn_InferredOp<"slice"> {
  let summary = "elements start, start + step, ... < end of dimension `dim`";
  let description = [{
    `start` and `end` are resolved (0 <= start <= end <= size); an `end` of
    9223372036854775807 is the end of a dynamic dimension.
  }];
  let arguments = (ins Pfcn_Tensor:$input, I64Attr:$dim, I64Attr:$start, I64Attr:$end,
                       DefaultValuedAttr<I64Attr, "1">:$step);
  let results = (outs Pfcn_Tensor:$result);
  let assemblyFormat = "$input `dim` $dim `from` $start `to` $end attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Pfcn_SelectOp : Pfcn_InferredOp<"select"> {
  let summary = "element `index` of dimension `dim`, which is dropped";
  let arguments = (ins Pfcn_Tensor:$input, I64Attr:$dim, I64Attr:$index);
  let results = (outs Pfcn_Tensor:$result);
  let assemblyFormat = "$input `dim` $dim `at` $index attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
}

def Pfcn_UnsqueezeOp : Pfcn_InferredOp<"unsqueeze"> {
  let summary = "a dimension of size 1 before dimension `dim`";
  let arguments = (ins Pfcn_Tensor:$input, I64Attr:$dim);
  let results = (outs Pfcn_Tensor:$result);
  let assemblyFormat = "$input `dim` $dim attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
}

def Pfcn_SqueezeOp : Pfcn_InferredOp<"squeeze"> {
  let summary = "drops the dimensions `dims`, each of size 1";
  let arguments = (ins Pfcn_Tensor:$input, DenseI64ArrayAttr:$dims);
  let results = (outs Pfcn_Tensor:$result);
  let assemblyFormat = "$input `dims` $dims attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
}

def Pfcn_ExpandOp : Pfcn_ComputeOp<"expand"> {
  let summary = "broadcasts to the result shape";
  let arguments = (ins Pfcn_Tensor:$input);
  let results = (outs Pfcn_Tensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `to` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Pfcn_FlipOp : Pfcn_ComputeOp<"flip", [SameOperandsAndResultType]> {
  let summary = "the elements in reverse order along the dimensions `dims`";
  let arguments = (ins Pfcn_Tensor:$input, DenseI64ArrayAttr:$dims);
  let results = (outs Pfcn_Tensor:$result);
  let assemblyFormat = "$input `dims` $dims attr-dict `:` type($result)";
  let hasVerifier = 1;
}

def Pfcn_CatOp : Pfcn_InferredOp<"cat"> {
  let summary = "concatenates along dimension `dim`";
  let arguments = (ins Variadic<Pfcn_Tensor>:$inputs, I64Attr:$dim);
  let results = (outs Pfcn_Tensor:$result);
  let assemblyFormat = "$inputs `dim` $dim attr-dict `:` functional-type($inputs, $result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Pfcn_StackOp : Pfcn_InferredOp<"stack"> {
  let summary = "joins along a new dimension `dim`";
  let arguments = (ins Variadic<Pfcn_Tensor>:$inputs, I64Attr:$dim);
  let results = (outs Pfcn_Tensor:$result);
  let assemblyFormat = "$inputs `dim` $dim attr-dict `:` functional-type($inputs, $result)";
  let hasVerifier = 1;
}

//===---------------------------------------------------------------------------===//
// Foreign operators
//===---------------------------------------------------------------------------===//

def Pfcn_OpaqueOp : Pfcn_Op<"opaque", [DeclareOpInterfaceMethods<MemoryEffectsOpInterface>]> {
  let summary = "a torch operator that the dialect does not model; runs through torch's dispatcher";
  let description = [{
    `arguments` has one attribute per argument of the schema: `#pfcn.operand<i>` for
    tensor operand i, an array for lists (of operands too), `unit` for None, and
    integers, floats, booleans and strings for themselves. `effect` marks an operator whose
    order must be kept; `random` one that draws from torch's generator: two equal ones are not one.

    With `batched`, the operator runs for all instances at once, through torch's own batching rule: the operands
    that are true there, and all results, carry the instances in a leading dimension.

    ```mlir
    %y = pfcn.opaque "aten::cumsum"(%x) [#pfcn.operand<0>, 1, unit] : (tensor<4x5xf32>) -> tensor<4x5xf32>
    %z = pfcn.opaque "aten::cumsum"(%s) [#pfcn.operand<0>, 1, unit] batched [true] : (tensor<9x4x5xf32>) -> tensor<9x4x5xf32>
    ```
  }];
  let arguments = (ins StrAttr:$name, Variadic<Pfcn_Tensor>:$inputs, ArrayAttr:$arguments, UnitAttr:$effect,
                       UnitAttr:$random, OptionalAttr<DenseBoolArrayAttr>:$batched);
  let results = (outs Variadic<Pfcn_Tensor>:$results);
  let assemblyFormat = [{
    $name `(` $inputs `)` $arguments (`effect` $effect^)? (`random` $random^)? (`batched` $batched^)? attr-dict
    `:` functional-type($inputs, $results)
  }];
  let extraClassDeclaration = [{
    /// The number of instances of a batched call.
    int64_t getInstanceCount() {
      return ::llvm::cast<::mlir::RankedTensorType>(getResult(0).getType()).getDimSize(0);
    }
  }];
  let hasVerifier = 1;
}

def Pfcn_ComposedOp : Pfcn_Op<"composed", [Pure, IsolatedFromAbove, SingleBlockImplicitTerminator<"YieldOp">]> {
  let summary = "a torch operator together with what it is composed of";
  let description = [{
    `name` and `arguments` are those of `pfcn.opaque`, and say which operator runs where the op is alone: result
    `index` of it. In a group the ops of the body take its place. The body follows from the rest of the op,
    so ops that agree in the rest are equal. `smooth`: the gradient of the body is that of the operator everywhere, with
    no kink at which torch chooses another.

    ```mlir
    %y = pfcn.composed "aten::frac"(%x) [#pfcn.operand<0>] : (tensor<4xf32>) -> tensor<4xf32> {
    ^bb0(%a: tensor<4xf32>):
      %0 = pfcn.trunc %a : tensor<4xf32>
      %1 = pfcn.sub %a, %0 : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
      pfcn.yield %1 : tensor<4xf32>
    }
    ```
  }];
  let arguments = (ins StrAttr:$name, Variadic<Pfcn_Tensor>:$inputs, ArrayAttr:$arguments,
                       DefaultValuedAttr<I64Attr, "0">:$index, UnitAttr:$smooth);
  let results = (outs Pfcn_Tensor:$result);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    $name `(` $inputs `)` $arguments attr-dict `:` functional-type($inputs, $result) $body
  }];
  let extraClassDeclaration = [{
    ::mlir::Block *getBodyBlock() { return &getBody().front(); }
    ::mlir::Value getYielded() { return getBodyBlock()->getTerminator()->getOperand(0); }
  }];
  let hasVerifier = 1;
}

def Pfcn_OperandAttr : AttrDef<Pfcn_Dialect, "Operand"> {
  let mnemonic = "operand";
  let summary = "an argument of a foreign operator that is one of its tensor operands";
  let parameters = (ins "int64_t":$index);
  let assemblyFormat = "`<` $index `>`";
}

//===---------------------------------------------------------------------------===//
// Groups
//===---------------------------------------------------------------------------===//

class Pfcn_FreshOp<string mnemonic> : Pfcn_Op<mnemonic, [Pure]> {
  let arguments = (ins Variadic<Index>:$dynamic_sizes);
  let results = (outs Pfcn_Tensor:$result);
  let assemblyFormat = "(`(` $dynamic_sizes^ `)`)? attr-dict `:` type($result)";
  let hasVerifier = 1;
}

def Pfcn_EmptyOp : Pfcn_FreshOp<"empty"> {
  let summary = "a fresh tensor that a group writes in full";
}

def Pfcn_ZerosOp : Pfcn_FreshOp<"zeros"> {
  let summary = "a fresh tensor of zeros, of which a group writes a part";
}

def Pfcn_YieldOp : Pfcn_Op<"yield", [Pure, Terminator, ReturnLike, ParentOneOf<["InstancesOp", "KernelOp", "ComposedOp"]>]> {
  let summary = "the results of the body";
  let arguments = (ins Variadic<Pfcn_Tensor>:$values);
  let assemblyFormat = "attr-dict ($values^ `:` type($values))?";
  let builders = [OpBuilder<(ins), [{ build($_builder, $_state, ::mlir::ValueRange()); }]>];
}

class Pfcn_GroupOp<string mnemonic> : Pfcn_Op<mnemonic, [
    Pure, IsolatedFromAbove, AttrSizedOperandSegments, SingleBlockImplicitTerminator<"YieldOp">]> {
  let arguments = (ins StrAttr:$name, I64Attr:$count, Variadic<Pfcn_Tensor>:$inputs, Variadic<Pfcn_Tensor>:$inits,
                       Pfcn_AccessArrayAttr:$input_accesses, Pfcn_AccessArrayAttr:$init_accesses);
  let results = (outs Variadic<Pfcn_Tensor>:$results);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    $name `count` $count `ins` `(` ($inputs^ `:` type($inputs))? `)` $input_accesses
    `outs` `(` $inits `:` type($inits) `)` $init_accesses attr-dict-with-keyword $body `->` type($results)
  }];
  let extraClassDeclaration = [{
    ::mlir::pfcn::AccessAttr getInputAccess(unsigned i) {
      return ::llvm::cast<::mlir::pfcn::AccessAttr>(getInputAccesses()[i]);
    }
    ::mlir::pfcn::AccessAttr getInitAccess(unsigned i) {
      return ::llvm::cast<::mlir::pfcn::AccessAttr>(getInitAccesses()[i]);
    }
    ::mlir::Block *getBodyBlock() { return &getBody().front(); }
    /// What the body yields, one value per destination.
    ::mlir::OperandRange getYielded() { return getBodyBlock()->getTerminator()->getOperands(); }
  }];
  let hasVerifier = 1;
}

def Pfcn_InstancesOp : Pfcn_GroupOp<"instances"> {
  let summary = "n independent instances of one body";
  let description = [{
    The body sees one instance: its arguments are what `input_accesses` cut out of the
    inputs, and what it yields goes where `init_accesses` say in the destinations. The results are
    the destinations with those parts replaced.

    ```mlir
    %y = pfcn.instances "fcn" count 2 ins(%x, %w : tensor<1x8xf32>, tensor<2x3x4xf32>)
           [#pfcn.access<slice dim 1 size 4 stride 4>, #pfcn.access<select dim 0>]
         outs(%init : tensor<1x6xf32>) [#pfcn.access<slice dim 1 size 3 stride 3>] {
    ^bb0(%a: tensor<1x4xf32>, %b: tensor<3x4xf32>):
      %0 = pfcn.linear %a, %b : tensor<1x4xf32>, tensor<3x4xf32> -> tensor<1x3xf32>
      pfcn.yield %0 : tensor<1x3xf32>
    } -> tensor<1x6xf32>
    ```
  }];
}

def Pfcn_KernelOp : Pfcn_GroupOp<"kernel"> {
  let summary = "a batched group: one isolated region that becomes one kernel";
  let description = [{
    As `pfcn.instances`, with a body that computes all instances: its arguments and what it
    yields carry a leading instance dimension, arguments whose access is shared excepted.
  }];
}

def Pfcn_GatherInstancesOp : Pfcn_Op<"gather_instances", [Pure]> {
  let summary = "what each instance sees of a tensor, stacked: a copy";
  let description = [{
    For accesses that a kernel does not read in place: those with a table of starts.

    ```mlir
    %g = pfcn.gather_instances %x <slice dim 1 size 4 at [0, 9]> : tensor<1x20xf32> -> tensor<2x1x4xf32>
    ```

    With `sizes`, instance i sees `sizes[i]` elements from its start, and zeros behind them.

    ```mlir
    %g = pfcn.gather_instances %x <slice dim 1 size 4 at [0, 4]> sizes [4, 2] : tensor<1x6xf32> -> tensor<2x1x4xf32>
    ```
  }];
  let arguments = (ins Pfcn_Tensor:$input, Pfcn_AccessAttr:$access, OptionalAttr<DenseI64ArrayAttr>:$sizes);
  let results = (outs Pfcn_Tensor:$result);
  let assemblyFormat = "$input $access (`sizes` $sizes^)? attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
}

def Pfcn_ScatterInstancesOp : Pfcn_Op<"scatter_instances", [Pure, AllTypesMatch<["init", "result"]>]> {
  let summary = "writes the stacked results of the instances where an access says: a copy";
  let description = [{
    The counterpart of `pfcn.gather_instances`; the rest of `init` stays as it is. With `accumulate` it adds, so that
    instances may overlap.

    ```mlir
    %y = pfcn.scatter_instances %s into %d <slice dim 1 size 4 at [9, 0]> : tensor<2x1x4xf32> into tensor<1x20xf32>
    ```
  }];
  let arguments = (ins Pfcn_Tensor:$input, Pfcn_Tensor:$init, Pfcn_AccessAttr:$access, UnitAttr:$accumulate);
  let results = (outs Pfcn_Tensor:$result);
  let assemblyFormat = "$input `into` $init $access attr-dict `:` type($input) `into` type($init)";
  let hasVerifier = 1;
}

def Pfcn_LaunchOp : Pfcn_Op<"launch", [Pure, AttrSizedOperandSegments]> {
  let summary = "runs a compiled kernel";
  let description = [{
    What `pfcn.kernel` leaves in the caller once its region has become the function `kernel`. That
    function takes `(begin, end)`, a range of tiles out of `tiles`, and one strided memref per
    input and destination: the tensor under its access (the instance dimension first).
  }];
  let arguments = (ins FlatSymbolRefAttr:$kernel, I64Attr:$count, I64Attr:$tiles, Variadic<Pfcn_Tensor>:$inputs,
                       Variadic<Pfcn_Tensor>:$inits, Pfcn_AccessArrayAttr:$input_accesses,
                       Pfcn_AccessArrayAttr:$init_accesses);
  let results = (outs Variadic<Pfcn_Tensor>:$results);
  let assemblyFormat = [{
    $kernel `count` $count `tiles` $tiles `ins` `(` ($inputs^ `:` type($inputs))? `)` $input_accesses
    `outs` `(` $inits `:` type($inits) `)` $init_accesses attr-dict `->` type($results)
  }];
}

#endif // PFCN_OPS_TD
