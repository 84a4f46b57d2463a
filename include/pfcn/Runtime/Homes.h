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

#include "llvm/ADT/ArrayRef.h"

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace pfcn::runtime {

struct HomeState;

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

/// n parameters of one shape and type, and the tensor that holds them.
class Stack {
public:
  /// Moves the parameters into a home, unless something speaks against it; see getReason.
  Stack(std::vector<at::Tensor> parameters, std::vector<std::string> names);
  ~Stack();
  Stack(const Stack &) = delete;
  Stack &operator=(const Stack &) = delete;

  /// Whether every parameter still is where it was put. A few ns per thousand parameters and cache level:
  /// one or two cache lines each.
  bool isSettled() const;

  /// Finds or makes a home for parameters that have moved. False where one of them no
  /// longer has the shape, type or device that the stack was made for.
  bool settle();

  /// The stacked tensor for one call; copies first where there is no home.
  at::Tensor get();

  bool hasHome() const { return home != nullptr; }
  /// Why there is no home; empty where there is one.
  const std::string &getReason() const { return reason; }
  const std::vector<at::Tensor> &getMembers() const { return members; }

private:
  void setHome(std::shared_ptr<HomeState> state, int64_t slot);
  bool findHome();
  bool isInPlace(size_t i) const;
  std::string findObstacle(llvm::ArrayRef<size_t> moving) const;
  void adopt();
  void moveInto(size_t i, const std::shared_ptr<HomeState> &state, int64_t slot);
  void refreshCopy();
  at::Tensor makeStacked() const;

  std::vector<at::Tensor> members;
  std::vector<std::string> names;
  std::vector<int64_t> shape, strides;
  at::ScalarType dtype;
  at::Device device = at::kCPU;

  std::shared_ptr<HomeState> home;
  int64_t firstSlot = 0;
  /// Each member's place while settled, and the home's count of released slots.
  Watch watch;
  uint64_t released = 0;
  at::Tensor stacked;
  std::string reason;
};

/// The stack of these parameters as a snapshot that no later update changes.
at::Tensor copyStack(llvm::ArrayRef<at::Tensor> members);

/// [n, *shape] as [tiles, elements, lanes]: `lanes` instances lie interleaved in a tile. The last tile
/// overlaps its neighbour, so that it ends with the last instance, as the kernels' loops do.
at::Tensor packInterleaved(const at::Tensor &stacked, int64_t lanes);

} // namespace pfcn::runtime

#endif // PFCN_RUNTIME_HOMES_H
