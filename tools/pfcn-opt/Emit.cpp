//===- Emit.cpp - --emit: what to print of a lowered module ------------------------===//

#include "Emit.h"

#include "pfcn/Codegen/Launches.h"
#include "pfcn/JIT/Cubin.h"
#include "pfcn/JIT/JIT.h"
#include "pfcn/JIT/Ptx.h"

#include "mlir/Parser/Parser.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/WithColor.h"

using namespace llvm;

namespace {
enum class Emit { MLIR, LLVM, Object, PTX, Cubin, Launches };
} // namespace

static cl::opt<Emit> emit("emit", cl::desc("What to print"), cl::init(Emit::MLIR),
                          cl::values(clEnumValN(Emit::MLIR, "mlir", "the module, after the passes"),
                                     clEnumValN(Emit::LLVM, "llvm", "LLVM IR of its CPU kernels"),
                                     clEnumValN(Emit::Object, "obj", "object code of its CPU kernels"),
                                     clEnumValN(Emit::PTX, "ptx", "PTX of its GPU kernels"),
                                     clEnumValN(Emit::Cubin, "cubin", "machine code of its GPU kernels"),
                                     clEnumValN(Emit::Launches, "launches", "its GPU launches as JSON")));

static cl::opt<std::string> chip("chip",
                                 cl::desc("The processor to emit code for: sm_75 to sm_121, or a CPU as clang's "
                                          "-march names it (default: sm_90, or this machine's)"));

bool emitsMachineCode() { return emit != Emit::MLIR; }

std::string getGpuChip() { return chip.empty() ? "sm_90" : chip.getValue(); }

static Expected<std::string> emitText(mlir::ModuleOp module) {
  std::string gpu = getGpuChip();
  switch (emit.getValue()) {
  case Emit::LLVM: {
    auto owned = pfcn::translateKernels(module, {chip});
    if (!owned)
      return owned.takeError();
    std::string text;
    raw_string_ostream(text) << *owned->module;
    return text;
  }
  case Emit::Object: {
    auto object = pfcn::compileKernelsToObject(module, {chip});
    if (!object)
      return object.takeError();
    return (*object)->getBuffer().str();
  }
  case Emit::PTX:
    return pfcn::compileKernelsToPtx(module, gpu);
  case Emit::Cubin: {
    auto ptx = pfcn::compileKernelsToPtx(module, gpu);
    if (!ptx)
      return ptx.takeError();
    return pfcn::assemblePtx(*ptx, gpu);
  }
  case Emit::Launches:
    return formatv("{0:2}\n", json::Value(mlir::pfcn::describeLaunches(module))).str();
  case Emit::MLIR:
    break;
  }
  llvm_unreachable("the module itself is not emitted here");
}

LogicalResult emitModule(StringRef text, mlir::DialectRegistry &registry, raw_ostream &output) {
  mlir::MLIRContext context(registry, mlir::MLIRContext::Threading::DISABLED);
  auto module = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
  if (!module)
    return failure();
  Expected<std::string> emitted = emitText(*module);
  if (!emitted) {
    WithColor::error() << toString(emitted.takeError()) << "\n";
    return failure();
  }
  output << *emitted;
  return success();
}
