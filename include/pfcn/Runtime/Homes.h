//===- Homes.h - one stacked tensor for n live parameters ----------------*- C++ -*-===//
//
// Kernels read the weights of all instances from one tensor [n, *shape]. The model's own
// parameters become views of it, each with a storage of its own over its slice, so an
// update is seen at once and nothing is copied per call. Where parameters cannot move,
// they are copied anew for every call: slower, never stale.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_RUNTIME_HOMES_H
#define PFCN_RUNTIME_HOMES_H

#include "pfcn/Runtime/Padding.h"

#include "llvm/ADT/ArrayRef.h"

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace pfcn::runtime {

struct HomeState;
class StackedLeaf;

/// Keeps the address of a tensor from being used again, but not its values.
using WeakTensor = c10::weak_intrusive_ptr<at::TensorImpl, at::UndefinedTensorImpl>;
/// The tensor; undefined where it is gone.
inline at::Tensor lock(const WeakTensor &weak) { return at::Tensor(weak.lock()); }

/// Where parameters are, to be compared once per call. The storage alone would miss `p.data = p.data.t()`, so
/// sizes and strides are compared too.
struct Watch {
  struct Entry {
    const c10::TensorImpl *impl;
    const c10::StorageImpl *storage;
  };

  bool isSame() const;

  std::vector<Entry> entries;
  size_t rank = 0;
  std::vector<int64_t> shape; ///< sizes, then strides
};

/// n parameters of one type, and the tensor that holds them. Those of several sizes are copied into it for each call:
/// with zeros between them they would not have torch's own strides. Whoever runs a plan keeps the parameters alive;
/// a stack does not.
class Stack {
public:
  /// Moves the parameters into a home, unless something speaks against it; see getReason. `shape`: of the stack.
  Stack(std::vector<at::Tensor> parameters, std::vector<std::string> names, at::IntArrayRef shape,
        StackPadding padding);
  ~Stack();
  Stack(const Stack &) = delete;
  Stack &operator=(const Stack &) = delete;

  /// Whether every parameter still is where it was put. Where torch has counted no edit since the last time, half a
  /// cache line is read for each; else each is looked at.
  bool isSettled() const;

  /// Finds or makes a home for parameters that have moved. False where one of them is gone, or no
  /// longer has the shape, type or device that the stack was made for.
  bool settle();

  /// The stacked tensor for one call; copies first where there is no home.
  at::Tensor get();

  bool hasHome() const { return home != nullptr; }
  /// Why there is no home; empty where there is one.
  const std::string &getReason() const { return reason; }
  size_t size() const { return members.size(); }
  at::IntArrayRef getShape() const { return shape; }
  const std::vector<WeakTensor> &getMembers() const { return members; }
  /// The stack as a leaf of autograd, of which the parameters then are parts.
  void setLeaf(std::shared_ptr<StackedLeaf> leaf);
  const std::shared_ptr<StackedLeaf> &getLeaf() const { return leaf; }
  /// Whether these are its parameters.
  bool isOf(llvm::ArrayRef<at::Tensor> parameters) const;
  /// A number for which of them autograd follows; 0 for none.
  uint64_t getGradPattern() const;
  /// The stacked tensor for one call that autograd follows.
  at::Tensor getFollowed();
  /// Grows with each edit in place of one of them that torch knows of.
  uint64_t getVersion() const;
  /// Their paths.
  const std::vector<std::string> &getNames() const { return names; }

private:
  using Members = llvm::ArrayRef<at::Tensor>;

  /// The parameters, undefined where one is gone.
  std::vector<at::Tensor> getLive() const;
  void setHome(std::shared_ptr<HomeState> state, int64_t slot, Members live = {});
  bool findHome(Members live);
  bool isInPlace(const at::Tensor &member, size_t i) const;
  std::string findObstacle(Members live, llvm::ArrayRef<size_t> moving) const;
  void adopt(Members live);
  void moveInto(const at::Tensor &member, const std::shared_ptr<HomeState> &state, int64_t slot);
  void refreshCopy();
  bool haveTypes(Members live) const;
  at::Tensor makeStacked() const;

  std::vector<WeakTensor> members;
  std::vector<std::string> names;
  std::vector<int64_t> shape;   // of the stack
  std::vector<int64_t> strides; // of a member of a home
  StackPadding padding;
  at::ScalarType dtype;
  at::Device device = at::kCPU;

  std::shared_ptr<HomeState> home;
  int64_t firstSlot = 0;
  /// Each member's place while settled, and the home's count of released slots.
  Watch watch;
  uint64_t released = 0;
  /// The counters of members' edits, and what they and `p.data = …` came to when all were last looked at.
  std::vector<c10::VariableVersion> counters;
  mutable uint64_t settledVersion = 0, settledReplacements = 0;
  at::Tensor stacked;
  std::string reason;
  std::shared_ptr<StackedLeaf> leaf;
};

/// Hashes, of which none but that of nothing but zeros is 0.
inline uint64_t joinGradPatterns(uint64_t first, uint64_t second) { return first * 0x9e3779b97f4a7c15 + second; }

/// The stack of these parameters as a snapshot that no later update changes.
at::Tensor copyStack(llvm::ArrayRef<at::Tensor> members, at::IntArrayRef shape, const StackPadding &padding);

/// [n, *shape] as [tiles, elements, lanes]: `lanes` instances lie interleaved in a tile. The last tile
/// overlaps its neighbour, so that it ends with the last instance, as the kernels' loops do.
at::Tensor packInterleaved(const at::Tensor &stacked, int64_t lanes);

} // namespace pfcn::runtime

#endif // PFCN_RUNTIME_HOMES_H
