//===- Guards.cpp - whether a model is still what was recorded ---------------------===//

#include "Guards.h"

#include <torch/csrc/jit/python/module_python.h>

namespace py = pybind11;

namespace pfcn {

/// Python's own count of changes, unique in the process; gone with Python 3.14.
#if PY_VERSION_HEX < 0x030E0000
static constexpr bool kHasVersions = true;
C10_DIAGNOSTIC_PUSH_AND_IGNORED_IF_DEFINED("-Wdeprecated-declarations")
static uint64_t getVersion(PyObject *dict) { return reinterpret_cast<PyDictObject *>(dict)->ma_version_tag; }
C10_DIAGNOSTIC_POP()
#else
static constexpr bool kHasVersions = false;
static uint64_t getVersion(PyObject *) { return 0; }
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

void Guards::add(Guard guard) {
  watched.push_back(guard.dict.ptr());
  newest = std::max(newest, guard.version);
  guards.push_back(std::move(guard));
}

Guards::Guards(const std::vector<py::dict> &dicts, const std::vector<py::object> &scripted) {
  guards.reserve(dicts.size());
  for (const py::dict &dict : dicts)
    add({dict, getVersion(dict.ptr()), copy(dict)});
  for (const py::object &module : scripted) {
    std::optional<torch::jit::Module> script = torch::jit::as_module(module);
    TORCH_CHECK_TYPE(script, "pfcn: not a ScriptModule");
    addScripted(script->_ivalue());
  }
  // In the order of memory, which the hardware fetches ahead best.
  std::sort(watched.begin(), watched.end());
}

void Guards::addScripted(const c10::intrusive_ptr<c10::ivalue::Object> &object) {
  for (size_t i = 0; i < object->slots().size(); ++i) {
    const c10::IValue &value = object->getSlot(i);
    slots.push_back({object, i, value});
    if (value.isModule())
      addScripted(value.toObject());
  }
}

bool Guards::areSlotsSame() const {
  return std::all_of(slots.begin(), slots.end(),
                     [](const Slot &slot) { return slot.object->getSlot(slot.index).is(slot.value); });
}

/// A number that is what it was the last time only where no dictionary of the process has changed in between, apart
/// from the making of `fresh`. Python has one count for all dictionaries, and changing one of ours tells it.
static uint64_t countChanges(py::handle fresh) {
  struct Probe {
    PyObject *dict = PyDict_New(), *key = PyLong_FromLong(0);
    bool value = false;
    uint64_t last = 0, step = 0, count = 1;

    /// Python's count, raised by one step.
    uint64_t raise() {
      value = !value;
      if (PyDict_SetItem(dict, key, value ? Py_True : Py_False) != 0)
        throw py::error_already_set();
      return getVersion(dict);
    }

    Probe() {
      last = raise();
      step = raise() - last;
      last += step;
    }
  };
  static auto &probe = *new Probe; // for as long as there are dictionaries
  uint64_t now = probe.raise();
  bool isFirst = now == probe.last + probe.step;
  bool isBehindFresh =
      fresh && getVersion(fresh.ptr()) == probe.last + probe.step && now == probe.last + 2 * probe.step;
  if (!isFirst && !isBehindFresh)
    ++probe.count;
  probe.last = now;
  return probe.count;
}

/// A change gives a dictionary a count above all that there were, so one number is compared
/// with, and nothing but the dictionaries themselves is read; and not even these where Python has changed none since.
bool Guards::areUnchanged(py::handle fresh) const {
  if (!kHasVersions)
    return !haveChanged();
  uint64_t changes = countChanges(fresh);
  if (changes == checkedAt)
    return areSlotsSame();
  constexpr size_t kAhead = 48;
  size_t count = watched.size();
  bool same = true;
  for (size_t i = 0; i < count; ++i) {
    if (i + kAhead < count)
      __builtin_prefetch(watched[i + kAhead]);
    same &= getVersion(watched[i]) <= newest;
  }
  if (same)
    checkedAt = changes;
  return same && areSlotsSame();
}

void Guards::rearm() {
  checkedAt = 0;
  for (Guard &guard : guards) {
    if (kHasVersions && guard.version == getVersion(guard.dict.ptr()))
      continue;
    guard.version = getVersion(guard.dict.ptr());
    newest = std::max(newest, guard.version);
    guard.copy = copy(guard.dict);
  }
  for (Slot &slot : slots)
    slot.value = slot.object->getSlot(slot.index);
}

bool Guards::haveChanged() const {
  for (const Guard &guard : guards)
    if ((!kHasVersions || guard.version != getVersion(guard.dict.ptr())) && !holdSame(guard.dict, guard.copy))
      return true;
  return !areSlotsSame();
}

} // namespace pfcn
