//===- TargetTest.cpp - kernels for older processors than this ----------------------===//

#include "pfcn/JIT/JIT.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "gtest/gtest.h"

using namespace pfcn;

/// Without F16C each conversion of f16 is a call into the compiler's runtime, which the kernel has to find.
TEST(Target, ConvertsHalvesWithoutInstructionsForThem) {
  mlir::MLIRContext context;
  context.loadDialect<mlir::arith::ArithDialect, mlir::func::FuncDialect, mlir::memref::MemRefDialect>();
  auto module = mlir::parseSourceString<mlir::ModuleOp>(R"(
    func.func @halve(%begin: index, %end: index, %from: memref<1xf16>, %to: memref<1xf16>)
        attributes {llvm.emit_c_interface} {
      %half = arith.constant 0.5 : f32
      %x = memref.load %from[%begin] : memref<1xf16>
      %wide = arith.extf %x : f16 to f32
      %y = arith.mulf %wide, %half : f32
      %narrow = arith.truncf %y : f32 to f16
      memref.store %narrow, %to[%begin] : memref<1xf16>
      return
    })",
                                                        &context);
  ASSERT_TRUE(module);
  auto kernels = CompiledKernels::compile(*module, Target{"x86-64"});
  if (!kernels)
    FAIL() << llvm::toString(kernels.takeError());
  CompiledKernels::Kernel kernel = (*kernels)->lookup("halve");
  ASSERT_TRUE(kernel);
  uint16_t from = 0x4600, to = 0; // 6
  int64_t begin = 0, end = 1;
  int64_t source[] = {reinterpret_cast<int64_t>(&from), reinterpret_cast<int64_t>(&from), 0, 1, 1};
  int64_t target[] = {reinterpret_cast<int64_t>(&to), reinterpret_cast<int64_t>(&to), 0, 1, 1};
  void *sourcePointer = source, *targetPointer = target;
  void *arguments[] = {&begin, &end, static_cast<void *>(&sourcePointer), static_cast<void *>(&targetPointer)};
  kernel(arguments);
  EXPECT_EQ(to, 0x4200); // 3
}
