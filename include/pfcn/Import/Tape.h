//===- Tape.h - the dispatcher calls of one forward --------------------*- C++ -*-===//
//
// What every front end records: operators with their arguments, in order, in value
// semantics. Tensors are numbered; everything else that a call was given is a constant.
// A tape becomes a `Model` through the aten table.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_IMPORT_TAPE_H
#define PFCN_IMPORT_TAPE_H

#include "pfcn/Import/Model.h"

#include <ATen/core/function_schema.h>
#include <ATen/core/ivalue.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

namespace pfcn {

/// A size that differs between the recordings that a general tape was made of.
inline constexpr int64_t kDynamicSize = -1;

/// Where a call comes from: the innermost module and the innermost line of the user's
/// code, as indices into `Tape::strings`; -1 where unknown.
struct Place {
  int module = -1;
  int file = -1;
  int line = 0;
};

struct TensorMeta {
  c10::DimVector sizes, strides;
  at::ScalarType dtype = at::kFloat;

  int64_t rank() const { return static_cast<int64_t>(sizes.size()); }
  /// Whether a recorded tensor is what this one stands for.
  bool covers(const TensorMeta &recorded) const;
};

struct TapeValue {
  enum class Kind { Input, Leaf, Constant, Result };
  Kind kind;
  TensorMeta meta;
  std::string name;             // of a leaf: its torch path
  at::Tensor constant;          // of a constant: its data
  bool isWrappedNumber = false; // of a constant: a Python number that torch made a tensor of

  /// A known number, which an operator can take in any element type.
  bool isScalar() const { return kind == Kind::Constant && meta.rank() == 0 && !constant.is_complex(); }
};

/// An argument of a call: tensors by number (-1 where a list has None), or a constant.
struct TapeArgument {
  enum class Kind { Constant, Tensor, TensorList };
  Kind kind = Kind::Constant;
  c10::IValue constant;
  std::vector<int> tensors;
};

/// A size of a result that is left open, and the size of a tensor argument that it was equal to in all recordings.
struct SizeOrigin {
  int result, dim;
  int operand, operandDim; // `operand` counts the tensors of all arguments

  bool operator==(const SizeOrigin &) const = default;
};

struct TapeCall {
  const c10::FunctionSchema *schema;
  std::vector<TapeArgument> arguments; // one per argument of the schema
  std::vector<int> results;            // flattened, undefined tensors left out
  Place place;
  bool isRandom = false; // two equal calls draw different numbers
  std::vector<SizeOrigin> sizes = {};

  /// "aten::add.Tensor"
  std::string getName() const;
  /// The tensors of all arguments.
  std::vector<int> getOperands() const;
};

struct Tape {
  std::vector<TapeValue> values;
  std::vector<TapeCall> calls;
  std::vector<int> inputs, outputs;
  /// What leaves hold afterwards: by path, the value that is copied into it behind the results.
  std::vector<std::pair<std::string, int>> writes;
  /// Parameters and buffers by path, those that are read.
  std::map<std::string, at::Tensor> leaves;
  std::vector<std::string> strings;
  /// Recorded while autograd was on: what it does not follow is cut off from it.
  bool isFollowed = false;

  int intern(const std::string &text);
  std::string describe(const Place &place) const;
  /// A digest of all that the compiler sees of the tape; places are left out.
  std::string getKey() const;

private:
  std::unordered_map<std::string, int> interned;
};

/// The tape of both recordings, with the sizes that differ left open; none where they
/// agree in more than sizes, or where a size does not follow from the operands.
std::optional<Tape> unify(const Tape &a, const Tape &b);

/// Whether the general tape computes what was recorded.
bool matches(const Tape &general, const Tape &recorded);

/// Whether sizes that a reshape has in common at the front can be the same ones: not if the
/// sizes behind them hold another number of elements.
bool carriesLeadingSizes(at::IntArrayRef in, at::IntArrayRef out);

/// Whether the dialect has tensors of this type.
bool hasElementType(at::ScalarType dtype);

/// Operators through which no gradient flows.
inline bool isDetach(const std::string &name) { return name == "aten::detach" || name == "aten::detach_copy"; }

/// Operators that make a tensor of given sizes.
bool isFactory(const std::string &name);

/// A tensor is made of a size that is left open, and that no operand has.
struct OpenSizeError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The tape in the pfcn dialect: the aten table op by op, `pfcn.opaque` for the rest.
std::shared_ptr<Model> buildModel(const Tape &tape);

} // namespace pfcn

#endif // PFCN_IMPORT_TAPE_H
