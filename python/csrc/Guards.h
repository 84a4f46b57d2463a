//===- Guards.h - whether a model is still what was recorded -------------*- C++ -*-===//
//
// Submodules, parameters and attributes of a module live in dictionaries. Python counts the
// changes of each, so one number per dictionary tells that nothing was put in, replaced or
// taken out, however that was done.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_PYTHON_GUARDS_H
#define PFCN_PYTHON_GUARDS_H

#include <ATen/core/ivalue.h>
#include <torch/csrc/utils/pybind.h>

namespace pfcn {

class Guards {
public:
  /// `scripted`: ScriptModules, whose attributes live outside of Python, submodules included.
  Guards(const std::vector<pybind11::dict> &dicts, const std::vector<pybind11::object> &scripted);

  /// Whether every dictionary is as it was when it was last taken note of. `fresh`: a dictionary made for this call,
  /// whose making is no change.
  bool areUnchanged(pybind11::handle fresh = {}) const;
  /// Takes note of what the dictionaries hold now.
  void rearm();
  /// Whether one of them holds other objects than when last taken note of; what was put
  /// back counts as no change.
  bool haveChanged() const;

private:
  struct Guard {
    pybind11::dict dict;
    uint64_t version;
    pybind11::dict copy;
  };

  /// An attribute of a scripted module.
  struct Slot {
    c10::intrusive_ptr<c10::ivalue::Object> object;
    size_t index;
    c10::IValue value;
  };

  void add(Guard guard);
  void addScripted(const c10::intrusive_ptr<c10::ivalue::Object> &object);
  bool areSlotsSame() const;

  std::vector<Guard> guards;
  /// The dictionaries of `guards`, and the largest of their versions.
  std::vector<PyObject *> watched;
  uint64_t newest = 0;
  /// The count of changes when all were last found unchanged; 0: never.
  mutable uint64_t checkedAt = 0;
  std::vector<Slot> slots;
};

} // namespace pfcn

#endif // PFCN_PYTHON_GUARDS_H
