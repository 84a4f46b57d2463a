// What LLVM's code generator cannot compile is an error, and not the end of the process.

// RUN: split-file %s %t
// RUN: not pfcn-opt %t/select.mlir --emit=obj -o %t.o 2>&1 | FileCheck %s --check-prefix=SELECT
// RUN: not pfcn-opt %t/register.mlir --emit=obj -o %t.o 2>&1 | FileCheck %s --check-prefix=REGISTER

//--- select.mlir
// SELECT: error: LLVM gave up: Cannot select: {{.*}}ptx.sreg
// SELECT-NOT: Stack dump
func.func @kernel(%out: memref<1xi32>) attributes {llvm.emit_c_interface} {
  %c0 = arith.constant 0 : index
  %x = llvm.call_intrinsic "llvm.nvvm.read.ptx.sreg.tid.x"() : () -> i32
  memref.store %x, %out[%c0] : memref<1xi32>
  return
}

//--- register.mlir
// REGISTER: error: LLVM cannot compile the kernels:
// REGISTER-NEXT: couldn't allocate {{.*}} for constraint
func.func @kernel(%out: memref<1xi32>) attributes {llvm.emit_c_interface} {
  %c0 = arith.constant 0 : index
  %x = llvm.inline_asm "mov $0, 1", "={nosuch}" : () -> i32
  memref.store %x, %out[%c0] : memref<1xi32>
  return
}
