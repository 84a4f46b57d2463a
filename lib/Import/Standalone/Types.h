//===- Types.h - torch's value types, without torch ----------------------*- C++ -*-===//
//
// The tape, the aten table and what turns one into the other are written in torch's terms, and
// are compiled twice: with LibTorch, where models are recorded, and with these few types, where
// a graph is read from a file. The headers beside this one have the names of torch's.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_LIB_IMPORT_STANDALONE_TYPES_H
#define PFCN_LIB_IMPORT_STANDALONE_TYPES_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"

#include <algorithm>
#include <complex>
#include <cstdint>
#include <cstring>
#include <functional>
#include <numeric>
#include <ostream>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

namespace at {

using IntArrayRef = llvm::ArrayRef<int64_t>;

/// With torch's numbers, which files hold.
enum class ScalarType : int8_t {
  Byte,
  Char,
  Short,
  Int,
  Long,
  Half,
  Float,
  Double,
  ComplexHalf,
  ComplexFloat,
  ComplexDouble,
  Bool,
  BFloat16 = 15,
  Undefined = 44
};
inline constexpr ScalarType kByte = ScalarType::Byte, kChar = ScalarType::Char, kShort = ScalarType::Short,
                            kInt = ScalarType::Int, kLong = ScalarType::Long, kHalf = ScalarType::Half,
                            kFloat = ScalarType::Float, kDouble = ScalarType::Double, kBool = ScalarType::Bool,
                            kComplexFloat = ScalarType::ComplexFloat, kComplexDouble = ScalarType::ComplexDouble,
                            kBFloat16 = ScalarType::BFloat16;

inline bool isFloatingType(ScalarType type) {
  return type == kHalf || type == kFloat || type == kDouble || type == kBFloat16;
}
inline bool isComplexType(ScalarType type) {
  return type == kComplexFloat || type == kComplexDouble || type == ScalarType::ComplexHalf;
}
inline bool isIntegralType(ScalarType type, bool includeBool) {
  return type <= kLong || (includeBool && type == kBool);
}

/// Bytes of an element.
inline size_t elementSize(ScalarType type) {
  switch (type) {
  case ScalarType::Byte:
  case ScalarType::Char:
  case ScalarType::Bool:
    return 1;
  case ScalarType::Short:
  case ScalarType::Half:
  case ScalarType::BFloat16:
    return 2;
  case ScalarType::Int:
  case ScalarType::Float:
  case ScalarType::ComplexHalf:
    return 4;
  case ScalarType::ComplexDouble:
    return 16;
  default:
    return 8;
  }
}

/// Torch's default, since a file says nothing of another.
inline ScalarType get_default_dtype() { return kFloat; }
inline ScalarType typeMetaToScalarType(ScalarType type) { return type; }

namespace Reduction {
enum Reduction { None, Mean, Sum, END };
} // namespace Reduction

class Scalar {
public:
  Scalar(int value) : value(int64_t(value)) {}
  Scalar(int64_t value) : value(value) {}
  Scalar(double value) : value(value) {}
  Scalar(bool value) : value(value) {}

  ScalarType type() const { return isBoolean() ? kBool : isIntegral(false) ? kLong : kDouble; }
  bool isComplex() const { return false; }
  bool isFloatingPoint() const { return std::holds_alternative<double>(value); }
  bool isIntegral(bool includeBool) const {
    return std::holds_alternative<int64_t>(value) || (includeBool && isBoolean());
  }
  bool isBoolean() const { return std::holds_alternative<bool>(value); }
  double toDouble() const { return get<double>(); }
  int64_t toLong() const { return get<int64_t>(); }
  bool toBool() const { return get<bool>(); }
  bool equal(double other) const { return toDouble() == other; }

private:
  template <typename To> To get() const {
    return std::visit([](auto number) { return static_cast<To>(number); }, value);
  }
  std::variant<int64_t, double, bool> value;
};

} // namespace at

namespace c10 {

using DimVector = llvm::SmallVector<int64_t, 5>;

inline int64_t multiply_integers(llvm::ArrayRef<int64_t> numbers) {
  return std::accumulate(numbers.begin(), numbers.end(), int64_t(1), std::multiplies<>());
}

const char *toString(at::ScalarType type);
/// The element type in which torch computes with both.
at::ScalarType promoteTypes(at::ScalarType a, at::ScalarType b);

/// A device by its name.
struct Device {
  std::string name;
  const std::string &str() const { return name; }
};

/// An argument that is no tensor.
class IValue {
public:
  IValue() = default;
  IValue(int64_t value) : value(value) {}
  IValue(int value) : value(int64_t(value)) {}
  IValue(double value) : value(value) {}
  IValue(bool value) : value(value) {}
  IValue(std::string value) : value(std::move(value)) {}
  IValue(Device value) : value(std::move(value)) {}
  IValue(std::complex<double> value) : value(value) {}
  IValue(llvm::ArrayRef<int64_t> list) : value(std::vector<IValue>(list.begin(), list.end())), ofInts(true) {}
  IValue(const std::vector<int64_t> &list) : IValue(llvm::ArrayRef<int64_t>(list)) {}
  static IValue makeList(std::vector<IValue> elements) {
    IValue list;
    list.value = std::move(elements);
    return list;
  }

  bool isNone() const { return is<std::monostate>(); }
  bool isInt() const { return is<int64_t>(); }
  bool isDouble() const { return is<double>(); }
  bool isBool() const { return is<bool>(); }
  bool isString() const { return is<std::string>(); }
  bool isDevice() const { return is<Device>(); }
  bool isComplexDouble() const { return is<std::complex<double>>(); }
  bool isScalar() const { return isInt() || isDouble() || isBool() || isComplexDouble(); }
  bool isList() const { return is<std::vector<IValue>>(); }
  bool isIntList() const { return isList() && ofInts; }
  int64_t toInt() const { return get<int64_t>(); }
  double toDouble() const { return get<double>(); }
  bool toBool() const { return get<bool>(); }
  const std::string &toStringRef() const { return get<std::string>(); }
  const Device &toDevice() const { return get<Device>(); }
  llvm::ArrayRef<IValue> toListRef() const { return get<std::vector<IValue>>(); }
  std::vector<int64_t> toIntVector() const;
  at::Scalar toScalar() const;
  std::string tagKind() const;

private:
  template <typename T> bool is() const { return std::holds_alternative<T>(value); }
  template <typename T> const T &get() const {
    if (!is<T>())
      throw std::runtime_error("an argument is a " + tagKind() + ", which its operator does not take");
    return std::get<T>(value);
  }

  std::variant<std::monostate, int64_t, double, bool, std::string, Device, std::complex<double>, std::vector<IValue>>
      value;
  bool ofInts = false;
};

std::ostream &operator<<(std::ostream &stream, const IValue &value);

struct Argument {
  std::string name;
  std::string type;               ///< as the schema spells it
  bool isRequired = true;         ///< without a default
  IValue defaultValue = IValue(); ///< None where there is none
};

class FunctionSchema {
public:
  FunctionSchema(std::string name, std::string overload, std::vector<Argument> arguments)
      : ownName(std::move(name)), ownOverload(std::move(overload)), ownArguments(std::move(arguments)) {}
  const std::string &name() const { return ownName; }
  const std::string &overload_name() const { return ownOverload; }
  const std::vector<Argument> &arguments() const { return ownArguments; }

private:
  std::string ownName, ownOverload;
  std::vector<Argument> ownArguments;
};

} // namespace c10

namespace at {

/// A dense tensor, if it has data; otherwise, a type.
class Tensor {
public:
  Tensor() = default;
  Tensor(ScalarType dtype, c10::DimVector sizes, std::string data)
      : dtype(dtype), shape(std::move(sizes)), data(std::move(data)) {}

  bool defined() const { return dtype != ScalarType::Undefined; }
  ScalarType scalar_type() const { return dtype; }
  const c10::DimVector &sizes() const { return shape; }
  int64_t numel() const { return c10::multiply_integers(shape); }
  size_t nbytes() const { return numel() * elementSize(dtype); }
  bool is_complex() const { return isComplexType(dtype); }
  bool is_meta() const { return data.size() != nbytes(); }
  const Tensor &cpu() const { return *this; }
  const Tensor &contiguous() const { return *this; }
  const void *const_data_ptr() const { return data.data(); }
  template <typename T> const T *const_data_ptr() const { return reinterpret_cast<const T *>(data.data()); }
  Scalar item() const;

private:
  ScalarType dtype = ScalarType::Undefined;
  c10::DimVector shape;
  std::string data;
};

bool equal(const Tensor &a, const Tensor &b);

} // namespace at

#endif // PFCN_LIB_IMPORT_STANDALONE_TYPES_H
