//===- Nest.cpp - tensors in lists, tuples and dicts -------------------------------===//

#include "Nest.h"

#include "Dispatcher.h"

#include <torch/csrc/autograd/python_variable.h>

namespace py = pybind11;

namespace pfcn {

static bool isConstant(PyObject *object) {
  return object == Py_None || PyBool_Check(object) || PyLong_CheckExact(object) || PyUnicode_CheckExact(object);
}

std::optional<Nest> Nest::of(py::handle nest, py::handle tensor) {
  Nest result;
  if (nest.is(tensor))
    return result;
  auto addAll = [&](auto &&elements) {
    for (py::handle element : elements) {
      std::optional<Nest> child = of(element, tensor);
      if (!child)
        return false;
      result.children.push_back(std::move(*child));
    }
    return true;
  };
  if (PyList_CheckExact(nest.ptr())) {
    result.kind = Kind::List;
    return addAll(py::reinterpret_borrow<py::list>(nest)) ? std::optional(result) : std::nullopt;
  }
  if (PyTuple_CheckExact(nest.ptr())) {
    result.kind = Kind::Tuple;
    return addAll(py::reinterpret_borrow<py::tuple>(nest)) ? std::optional(result) : std::nullopt;
  }
  if (PyDict_CheckExact(nest.ptr())) {
    result.kind = Kind::Dict;
    std::vector<py::handle> values;
    for (auto [key, value] : py::reinterpret_borrow<py::dict>(nest)) {
      if (!PyUnicode_CheckExact(key.ptr()))
        return std::nullopt;
      result.keys.push_back(py::reinterpret_borrow<py::object>(key));
      values.push_back(value);
    }
    return addAll(values) ? std::optional(result) : std::nullopt;
  }
  if (!isConstant(nest.ptr()))
    return std::nullopt;
  result.kind = Kind::Constant;
  result.constant = py::reinterpret_borrow<py::object>(nest);
  return result;
}

bool Nest::holdsConstant(PyObject *object) const {
  if (constant.ptr() == object)
    return true;
  if (Py_TYPE(object) != Py_TYPE(constant.ptr()) || !isConstant(object)) // 1 is not True
    return false;
  int equal = PyObject_RichCompareBool(object, constant.ptr(), Py_EQ);
  if (equal < 0)
    PyErr_Clear();
  return equal == 1;
}

bool Nest::flattenAll(llvm::ArrayRef<PyObject *> elements, llvm::SmallVectorImpl<at::Tensor> &tensors) const {
  if (elements.size() != children.size())
    return false;
  for (auto [child, element] : llvm::zip_equal(children, elements))
    if (!child.flatten(element, tensors))
      return false;
  return true;
}

bool Nest::flatten(PyObject *nest, llvm::SmallVectorImpl<at::Tensor> &tensors) const {
  switch (kind) {
  case Kind::Tensor:
    if (!isPlainTensor(nest))
      return false;
    tensors.push_back(THPVariable_Unpack(nest));
    return true;
  case Kind::Constant:
    return holdsConstant(nest);
  case Kind::List:
    return PyList_CheckExact(nest) &&
           flattenAll({PySequence_Fast_ITEMS(nest), static_cast<size_t>(PyList_GET_SIZE(nest))}, tensors);
  case Kind::Tuple:
    return PyTuple_CheckExact(nest) &&
           flattenAll({PySequence_Fast_ITEMS(nest), static_cast<size_t>(PyTuple_GET_SIZE(nest))}, tensors);
  case Kind::Dict: {
    if (!PyDict_CheckExact(nest) || PyDict_GET_SIZE(nest) != static_cast<Py_ssize_t>(children.size()))
      return false;
    Py_ssize_t position = 0;
    PyObject *key = nullptr, *value = nullptr;
    for (size_t i = 0; PyDict_Next(nest, &position, &key, &value); ++i) // in order, which results may depend on
      if ((keys[i].ptr() != key && (!PyUnicode_CheckExact(key) || PyUnicode_Compare(keys[i].ptr(), key) != 0)) ||
          !children[i].flatten(value, tensors))
        return false;
    return true;
  }
  }
  return false;
}

py::object Nest::build(llvm::MutableArrayRef<at::Tensor> &tensors) const {
  switch (kind) {
  case Kind::Tensor: {
    PyObject *wrapped = THPVariable_Wrap(std::move(tensors.front()));
    tensors = tensors.drop_front();
    return py::reinterpret_steal<py::object>(wrapped);
  }
  case Kind::Constant:
    return constant;
  case Kind::List: {
    py::list list(children.size());
    for (size_t i = 0; i < children.size(); ++i)
      PyList_SET_ITEM(list.ptr(), static_cast<Py_ssize_t>(i), children[i].build(tensors).release().ptr());
    return std::move(list);
  }
  case Kind::Tuple: {
    py::tuple tuple(children.size());
    for (size_t i = 0; i < children.size(); ++i)
      PyTuple_SET_ITEM(tuple.ptr(), static_cast<Py_ssize_t>(i), children[i].build(tensors).release().ptr());
    return std::move(tuple);
  }
  case Kind::Dict: {
    py::dict dict;
    for (size_t i = 0; i < children.size(); ++i)
      dict[keys[i]] = children[i].build(tensors);
    return std::move(dict);
  }
  }
  return py::none();
}

} // namespace pfcn
