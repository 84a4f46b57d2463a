//===- Target.cpp - the processor that kernels are compiled for --------------------===//

#include "pfcn/JIT/Target.h"

#include "llvm/ExecutionEngine/Orc/JITTargetMachineBuilder.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/TargetParser/Host.h"

using namespace pfcn;

llvm::Expected<std::unique_ptr<llvm::TargetMachine>> Target::createTargetMachine() const {
  static bool initialized = [] {
    llvm::InitializeNativeTarget();
    llvm::InitializeNativeTargetAsmPrinter();
    llvm::InitializeNativeTargetAsmParser();
    return true;
  }();
  (void)initialized;
  llvm::Expected<llvm::orc::JITTargetMachineBuilder> builder = llvm::orc::JITTargetMachineBuilder::detectHost();
  if (!builder)
    return builder.takeError();
  if (!cpu.empty()) {
    // The named processor's features, and none of the host's.
    *builder = llvm::orc::JITTargetMachineBuilder(builder->getTargetTriple());
    builder->setCPU(cpu);
  }
  builder->setRelocationModel(llvm::Reloc::PIC_);
  builder->setCodeGenOptLevel(llvm::CodeGenOptLevel::Aggressive);
  llvm::Expected<std::unique_ptr<llvm::TargetMachine>> machine = builder->createTargetMachine();
  if (machine && !cpu.empty() && !(*machine)->getMCSubtargetInfo()->isCPUStringValid(cpu))
    return llvm::createStringError("unknown processor '" + cpu +
                                   "': name one as clang's -march does, or none for this machine's");
  return machine;
}

llvm::Expected<int64_t> Target::getVectorBytes() const {
  llvm::Expected<std::unique_ptr<llvm::TargetMachine>> machine = createTargetMachine();
  if (!machine)
    return machine.takeError();
  const llvm::MCSubtargetInfo *subtarget = (*machine)->getMCSubtargetInfo();
  if (!(*machine)->getTargetTriple().isX86())
    return 16;
  if (subtarget->checkFeatures("+avx512f"))
    return 64;
  return subtarget->checkFeatures("+avx") ? 32 : 16;
}
