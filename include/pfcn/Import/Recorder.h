//===- Recorder.h - records the dispatcher calls of this thread --------*- C++ -*-===//
//
// A boxed fallback above Autograd and Autocast sees each operator that the model calls.
// Every tensor read must be known, views and in-place writes become values, and what
// cannot be replayed is refused with a reason.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_IMPORT_RECORDER_H
#define PFCN_IMPORT_RECORDER_H

#include "pfcn/Import/Tape.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

#include <functional>
#include <stdexcept>

namespace pfcn {

/// Why a model cannot be recorded, where, and what to do about it.
struct Refusal {
  std::string reason, where, remedy;
};

/// Unwinds the model once a recording is refused.
struct RefusedError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Recorder {
public:
  struct Options {
    /// Where the current call comes from.
    std::function<Place(Tape &)> locate;
    /// Tensors on the meta device stand for tensors of the CPU.
    bool isAbstract = false;
    /// Writes to parameters and buffers are recorded (see `finish`), and taken back when the recording ends.
    bool allowsWrites = false;
    /// The name of the autograd.Function that made the tensor, if one did.
    std::function<std::string(const at::Tensor &)> getAutogradFunction;
  };

  explicit Recorder(Options options);
  ~Recorder();
  Recorder(const Recorder &) = delete;
  Recorder &operator=(const Recorder &) = delete;

  void allowWrites() { options.allowsWrites = true; }
  void addInput(const at::Tensor &tensor);
  /// A parameter or buffer; `live` is what the model keeps if `tensor` only stands for it.
  void addLeaf(const std::string &name, const at::Tensor &tensor, const at::Tensor &live);

  /// From here to `stop`, the calling thread's calls are recorded.
  void start();
  void stop();
  bool isRecording() const { return recording; }

  /// Notes the first refusal only; later calls run unrecorded.
  void refuse(std::string reason, std::string remedy = {});
  const std::optional<Refusal> &getRefusal() const { return refusal; }

  void addOutput(const at::Tensor &tensor);
  /// After the outputs: notes what the leaves that were written hold now.
  void finish();
  /// Whether the output shares memory with an input, a parameter or a buffer.
  bool aliasesForeign(const at::Tensor &tensor) const;
  /// Refuses where a leaf or an input was written behind the dispatcher's back.
  void checkUnwritten();

  Tape &getTape() { return *tape; }
  std::shared_ptr<Tape> getSharedTape() { return tape; }

  /// Called by the fallback.
  void handle(const c10::OperatorHandle &op, c10::DispatchKeySet next, torch::jit::Stack &stack);

  struct Alias;
  struct Memory;
  struct Traits;

private:
  void record(const c10::OperatorHandle &op, const Traits &traits, c10::DispatchKeySet next, torch::jit::Stack &stack);
  void refuseIfUnsafe(const Traits &traits, at::ArrayRef<c10::IValue> arguments);
  TapeArgument encode(const c10::Argument &formal, const c10::IValue &value);
  std::shared_ptr<Alias> lookUp(const at::Tensor &tensor);
  std::shared_ptr<Alias> add(const at::Tensor &tensor, int value);
  std::shared_ptr<Alias> addConstant(const at::Tensor &tensor);
  int addValue(TapeValue::Kind kind, const TensorMeta &meta);
  TensorMeta describe(const at::Tensor &tensor);
  /// The value of a tensor that the model reads or returns.
  int read(const at::Tensor &tensor);
  /// The value that a tensor has now: its view taken anew where its memory was written since.
  int current(Alias &alias);
  void write(Alias &alias, int value);
  int scatter(Alias &alias, int value);
  void cutOff(Alias &alias);
  void recordBatchNorm(const Traits &traits, at::ArrayRef<c10::IValue> arguments, const at::Tensor &running_mean,
                       const at::Tensor &running_var, const std::function<at::Tensor()> &run);
  void allowWrite(const std::string &name, const Memory &memory);
  void takeBackWrites();
  void recordWrites(const Traits &traits, TapeCall call, at::ArrayRef<c10::IValue> arguments);
  std::optional<int> recordOverwrite(const std::string &name, const TapeCall &call,
                                     at::ArrayRef<c10::IValue> arguments);
  void recordResults(const Traits &traits, TapeCall call, at::ArrayRef<c10::IValue> arguments,
                     at::ArrayRef<c10::IValue> results);
  int emit(const c10::FunctionSchema &schema, std::vector<TapeArgument> arguments, const TensorMeta &meta);
  Place locate();
  [[noreturn]] void refuseAndThrow(std::string reason, std::string remedy = {});

  Options options;
  std::shared_ptr<Tape> tape = std::make_shared<Tape>();
  std::optional<Refusal> refusal;
  std::unordered_map<const at::TensorImpl *, std::shared_ptr<Alias>> aliases;
  std::unordered_map<const c10::StorageImpl *, std::shared_ptr<Memory>> memories;
  /// Keep the addresses of tensors and storages from being used again.
  std::vector<c10::weak_intrusive_ptr<at::TensorImpl>> keptTensors;
  std::vector<std::pair<at::Tensor, uint32_t>> versions;
  /// Leaves that were written, and what they held before.
  std::vector<std::pair<at::Tensor, at::Tensor>> written;
  std::optional<at::Device> device; // of all tensors, numbers on the CPU aside
  bool recording = false;
  int depth = 0;
  /// What nested calls of the current operator were seen to do.
  bool nestedReadsData = false, nestedIsRandom = false, nestedCasts = false;
};

} // namespace pfcn

#endif // PFCN_IMPORT_RECORDER_H
