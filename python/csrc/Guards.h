//===- Guards.h - whether a model is still what was recorded -------------*- C++ -*-===//
//
// Submodules, parameters and attributes of a module live in dictionaries. Python counts the
// changes of each, so one number per dictionary tells that nothing was put in, replaced or
// taken out, however that was done.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_PYTHON_GUARDS_H
#define PFCN_PYTHON_GUARDS_H

#include <torch/csrc/utils/pybind.h>

namespace pfcn {

class Guards {
public:
  explicit Guards(const std::vector<pybind11::dict> &dicts);

  /// Whether every dictionary is as it was when it was last taken note of.
  bool areUnchanged() const;
  /// Takes note of what the dictionaries hold now.
  void rearm();
  /// Which dictionaries hold other objects than when last taken note of; what was put
  /// back counts as no change.
  std::vector<size_t> findChanges() const;

private:
  struct Guard {
    pybind11::dict dict;
    uint64_t version;
    pybind11::dict copy;
  };

  std::vector<Guard> guards;
};

} // namespace pfcn

#endif // PFCN_PYTHON_GUARDS_H
