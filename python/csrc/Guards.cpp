//===- Guards.cpp - whether a model is still what was recorded ---------------------===//

#include "Guards.h"

namespace py = pybind11;

namespace pfcn {

/// Python's own count of changes, unique in the process; gone with Python 3.14.
#if PY_VERSION_HEX < 0x030E0000
static constexpr bool kHasVersions = true;
C10_DIAGNOSTIC_PUSH_AND_IGNORED_IF_DEFINED("-Wdeprecated-declarations")
static uint64_t getVersion(const py::dict &dict) { return reinterpret_cast<PyDictObject *>(dict.ptr())->ma_version_tag; }
C10_DIAGNOSTIC_POP()
#else
static constexpr bool kHasVersions = false;
static uint64_t getVersion(const py::dict &) { return 0; }
#endif

/// Whether both hold the very same objects under the same keys in the same order.
static bool holdSame(const py::dict &a, const py::dict &b) {
  if (PyDict_GET_SIZE(a.ptr()) != PyDict_GET_SIZE(b.ptr()))
    return false;
  Py_ssize_t positionA = 0, positionB = 0;
  PyObject *keyA, *keyB, *valueA, *valueB;
  while (PyDict_Next(a.ptr(), &positionA, &keyA, &valueA) && PyDict_Next(b.ptr(), &positionB, &keyB, &valueB))
    if (keyA != keyB || valueA != valueB)
      return false;
  return true;
}

static py::dict copy(const py::dict &dict) { return py::reinterpret_steal<py::dict>(PyDict_Copy(dict.ptr())); }

Guards::Guards(const std::vector<py::dict> &dicts) {
  guards.reserve(dicts.size());
  for (const py::dict &dict : dicts)
    guards.push_back({dict, getVersion(dict), copy(dict)});
}

bool Guards::areUnchanged() const {
  if (!kHasVersions)
    return findChanges().empty();
  constexpr size_t kAhead = 16;
  size_t count = guards.size();
  bool same = true;
  for (size_t i = 0; i < count; ++i) {
    if (i + kAhead < count)
      __builtin_prefetch(guards[i + kAhead].dict.ptr());
    same &= getVersion(guards[i].dict) == guards[i].version;
  }
  return same;
}

void Guards::rearm() {
  for (Guard &guard : guards) {
    if (kHasVersions && guard.version == getVersion(guard.dict))
      continue;
    guard.version = getVersion(guard.dict);
    guard.copy = copy(guard.dict);
  }
}

std::vector<size_t> Guards::findChanges() const {
  std::vector<size_t> changed;
  for (size_t i = 0; i < guards.size(); ++i)
    if ((!kHasVersions || guards[i].version != getVersion(guards[i].dict)) && !holdSame(guards[i].dict, guards[i].copy))
      changed.push_back(i);
  return changed;
}

} // namespace pfcn
