//===- PerfMap.cpp - names of compiled kernels for perf -----------------------------===//

#include "pfcn/JIT/PerfMap.h"

#include "llvm/ExecutionEngine/JITLink/JITLink.h"
#include "llvm/ExecutionEngine/Orc/ObjectLinkingLayer.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Process.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;

namespace {

struct PerfMap : orc::ObjectLinkingLayer::Plugin {
  void modifyPassConfig(orc::MaterializationResponsibility &, jitlink::LinkGraph &,
                        jitlink::PassConfiguration &config) override {
    config.PostFixupPasses.push_back([](jitlink::LinkGraph &graph) {
      // Lines of one write each are not torn where Python or another library writes to the same file. A map that
      // cannot be written is no reason to fail.
      std::error_code error;
      raw_fd_ostream map(formatv("/tmp/perf-{0}.map", sys::Process::getProcessId()).str(), error,
                         sys::fs::OF_Append | sys::fs::OF_Text);
      if (error)
        return Error::success();
      for (jitlink::Symbol *symbol : graph.defined_symbols())
        if (symbol->hasName() && symbol->isCallable())
          map << formatv("{0:x-} {1:x-} {2}\n", symbol->getAddress().getValue(), symbol->getSize(), *symbol->getName());
      map.close();
      map.clear_error();
      return Error::success();
    });
  }

  Error notifyFailed(orc::MaterializationResponsibility &) override { return Error::success(); }
  Error notifyRemovingResources(orc::JITDylib &, orc::ResourceKey) override { return Error::success(); }
  void notifyTransferringResources(orc::JITDylib &, orc::ResourceKey, orc::ResourceKey) override {}
};

} // namespace

void pfcn::writePerfMapIfAsked(orc::LLJIT &jit) {
  if (sys::Process::GetEnv("PFCN_PERF") != "1")
    return;
  if (auto *layer = dyn_cast<orc::ObjectLinkingLayer>(&jit.getObjLinkingLayer()))
    layer->addPlugin(std::make_shared<PerfMap>());
}
