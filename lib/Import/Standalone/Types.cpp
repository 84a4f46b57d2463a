//===- Types.cpp - torch's value types, without torch ------------------------------===//

#include "Standalone/Types.h"

#include "llvm/ADT/APFloat.h"

using namespace at;

const char *c10::toString(ScalarType type) {
  static constexpr const char *names[] = {"Byte",  "Char",   "Short",       "Int",          "Long",          "Half",
                                          "Float", "Double", "ComplexHalf", "ComplexFloat", "ComplexDouble", "Bool"};
  auto index = static_cast<size_t>(type);
  return index < std::size(names) ? names[index] : type == kBFloat16 ? "BFloat16" : "a type unknown here";
}

/// Booleans, integers, floats, complex numbers: the higher kind wins.
static int getKind(ScalarType type) {
  return isComplexType(type) ? 3 : isFloatingType(type) ? 2 : type == kBool ? 0 : 1;
}

static ScalarType toComplex(ScalarType type) {
  if (isComplexType(type))
    return type;
  return type == kDouble ? kComplexDouble : type == kHalf ? ScalarType::ComplexHalf : kComplexFloat;
}

ScalarType c10::promoteTypes(ScalarType a, ScalarType b) {
  if (a == b)
    return a;
  if (getKind(a) < getKind(b))
    std::swap(a, b);
  if (getKind(a) == 3 && getKind(b) < 2)
    return a;
  if (getKind(a) == 3)
    return std::max(a, toComplex(b));
  if (getKind(a) != getKind(b))
    return a;
  bool areHalves = elementSize(a) == 2 && elementSize(b) == 2;
  if (getKind(a) == 2 && areHalves)
    return kFloat;
  bool hasByte = a == kByte || b == kByte;
  if (hasByte && elementSize(a) == elementSize(b))
    return kShort;
  return elementSize(a) > elementSize(b) ? a : b;
}

std::vector<int64_t> c10::IValue::toIntVector() const {
  std::vector<int64_t> integers;
  for (const IValue &element : toListRef())
    integers.push_back(element.toInt());
  return integers;
}

Scalar c10::IValue::toScalar() const {
  if (isInt())
    return toInt();
  return isBool() ? Scalar(toBool()) : Scalar(toDouble());
}

std::string c10::IValue::tagKind() const {
  static constexpr const char *names[] = {"None", "Int", "Double", "Bool", "String", "Device", "ComplexDouble", "List"};
  return names[value.index()];
}

std::ostream &c10::operator<<(std::ostream &stream, const IValue &value) {
  if (value.isDevice())
    return stream << value.toDevice().str();
  return stream << value.tagKind();
}

template <typename T> static T read(const Tensor &tensor) {
  T value;
  std::memcpy(&value, tensor.const_data_ptr(), sizeof(T));
  return value;
}

static double readFloat(const Tensor &tensor, const llvm::fltSemantics &semantics) {
  llvm::APFloat value(semantics, llvm::APInt(16, read<uint16_t>(tensor)));
  bool losesInfo;
  value.convert(llvm::APFloat::IEEEdouble(), llvm::APFloat::rmNearestTiesToEven, &losesInfo);
  return value.convertToDouble();
}

Scalar Tensor::item() const {
  if (numel() != 1 || is_meta())
    throw std::runtime_error("a number is asked of a tensor that holds none");
  switch (dtype) {
  case ScalarType::Byte:
    return int64_t(read<uint8_t>(*this));
  case ScalarType::Char:
    return int64_t(read<int8_t>(*this));
  case ScalarType::Short:
    return int64_t(read<int16_t>(*this));
  case ScalarType::Int:
    return int64_t(read<int32_t>(*this));
  case ScalarType::Long:
    return read<int64_t>(*this);
  case ScalarType::Bool:
    return read<bool>(*this);
  case ScalarType::Half:
    return readFloat(*this, llvm::APFloat::IEEEhalf());
  case ScalarType::BFloat16:
    return readFloat(*this, llvm::APFloat::BFloat());
  case ScalarType::Float:
    return double(read<float>(*this));
  case ScalarType::Double:
    return read<double>(*this);
  default:
    throw std::runtime_error(std::string("a number of type ") + c10::toString(dtype) + " is not supported");
  }
}

bool at::equal(const Tensor &a, const Tensor &b) {
  return a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() && a.is_meta() == b.is_meta() &&
         (a.is_meta() || std::memcmp(a.const_data_ptr(), b.const_data_ptr(), a.nbytes()) == 0);
}
