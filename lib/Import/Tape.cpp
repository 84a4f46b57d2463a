//===- Tape.cpp - comparing recordings ---------------------------------------------===//
//
// A general tape is the join of recordings that differ in sizes only. A recording matches
// it if joining the two changes nothing; so what a model does with a size in Python (a
// branch, `min(B, 64)`) shows as a tape that does not match, and is compiled on its own.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Import/Tape.h"

#include <ATen/ops/equal.h>
#include <llvm/ADT/StringExtras.h>
#include <llvm/Support/xxhash.h>

#include <limits>
#include <sstream>
#include <unordered_set>

using namespace pfcn;
using c10::IValue;

static constexpr int64_t kToEnd = std::numeric_limits<int64_t>::max();

std::string TapeCall::getName() const {
  const std::string &overload = schema->overload_name();
  return overload.empty() ? schema->name() : schema->name() + "." + overload;
}

std::vector<int> TapeCall::getOperands() const {
  std::vector<int> operands;
  for (const TapeArgument &argument : arguments)
    std::copy_if(argument.tensors.begin(), argument.tensors.end(), std::back_inserter(operands),
                 [](int value) { return value >= 0; });
  return operands;
}

int Tape::intern(const std::string &text) {
  auto [it, isNew] = interned.try_emplace(text, static_cast<int>(strings.size()));
  if (isNew)
    strings.push_back(text);
  return it->second;
}

std::string Tape::describe(const Place &place) const {
  std::string text = place.module >= 0 ? strings[place.module] : "";
  if (place.file < 0)
    return text;
  std::string line = strings[place.file] + ":" + std::to_string(place.line);
  return text.empty() ? line : text + " (" + line + ")";
}

//===----------------------------------------------------------------------------===//
// The digest
//===----------------------------------------------------------------------------===//

namespace {
/// A byte string that two tapes share only if they agree in all that is put in.
class Digest {
public:
  template <typename Plain> void add(Plain value) {
    bytes.append(reinterpret_cast<const char *>(&value), sizeof(value));
  }
  void add(const std::string &text) {
    add(text.size());
    bytes += text;
  }
  template <typename List> void addList(const List &list) {
    add(list.size());
    for (const auto &element : list)
      add(element);
  }
  void add(const IValue &value) {
    if (value.isInt()) {
      add('i');
      add(value.toInt());
    } else if (value.isDouble()) {
      add('d');
      add(value.toDouble());
    } else if (value.isBool()) {
      add(value.toBool() ? 't' : 'f');
    } else if (value.isNone()) {
      add('n');
    } else if (value.isString()) {
      add('s');
      add(value.toStringRef());
    } else if (value.isList()) {
      add('l');
      addList(value.toListRef());
    } else {
      std::ostringstream text;
      text << value;
      add('o');
      add(text.str());
    }
  }
  void add(const TensorMeta &meta) {
    addList(meta.sizes);
    add(static_cast<int>(meta.dtype));
  }

  std::string bytes;
};
} // namespace

static bool equal(const IValue &a, const IValue &b) {
  if (a.isInt() && b.isInt())
    return a.toInt() == b.toInt();
  if (a.isNone() && b.isNone())
    return true;
  Digest left, right;
  left.add(a);
  right.add(b);
  return left.bytes == right.bytes;
}

std::string Tape::getKey() const {
  Digest digest;
  digest.add(isFollowed && llvm::any_of(calls, [](const TapeCall &call) { return isDetach(call.schema->name()); }));
  for (const TapeValue &value : values) {
    digest.add(static_cast<int>(value.kind));
    digest.add(value.meta);
    digest.add(value.name);
    digest.add(value.isWrappedNumber);
    if (value.kind == TapeValue::Kind::Constant && !value.constant.is_meta()) {
      at::Tensor data = value.constant.cpu().contiguous();
      digest.add(std::string(static_cast<const char *>(data.const_data_ptr()), data.nbytes()));
    }
  }
  for (const TapeCall &call : calls) {
    digest.add(call.schema->name());
    digest.add(call.schema->overload_name());
    digest.add(call.isRandom);
    for (const TapeArgument &argument : call.arguments) {
      digest.add(static_cast<int>(argument.kind));
      digest.addList(argument.tensors);
      digest.add(argument.constant);
    }
    digest.addList(call.results);
    for (const SizeOrigin &size : call.sizes)
      for (int number : {size.result, size.dim, size.operand, size.operandDim})
        digest.add(number);
  }
  digest.addList(inputs);
  digest.addList(outputs);
  for (const auto &[name, value] : writes) {
    digest.add(name);
    digest.add(value);
  }
  auto bytes = llvm::ArrayRef(reinterpret_cast<const uint8_t *>(digest.bytes.data()), digest.bytes.size());
  llvm::XXH128_hash_t hash = llvm::xxh3_128bits(bytes);
  return llvm::utohexstr(hash.high64) + llvm::utohexstr(hash.low64);
}

//===----------------------------------------------------------------------------===//
// The join of two tapes
//===----------------------------------------------------------------------------===//

/// Sizes 0 and 1 mean something of their own (broadcasting, squeeze): they are not covered.
static bool canVary(int64_t size) { return size == kDynamicSize || size > 1; }

bool TensorMeta::covers(const TensorMeta &recorded) const {
  if (dtype != recorded.dtype || sizes.size() != recorded.sizes.size())
    return false;
  for (size_t i = 0; i < sizes.size(); ++i)
    if (sizes[i] != recorded.sizes[i] && !(sizes[i] == kDynamicSize && canVary(recorded.sizes[i])))
      return false;
  return true;
}

static bool joinValue(TapeValue &a, const TapeValue &b) {
  if (a.kind != b.kind || a.name != b.name || a.meta.dtype != b.meta.dtype ||
      a.meta.sizes.size() != b.meta.sizes.size() || a.isWrappedNumber != b.isWrappedNumber)
    return false;
  bool isFixed = a.kind == TapeValue::Kind::Leaf || a.kind == TapeValue::Kind::Constant;
  if (isFixed && a.meta.sizes != b.meta.sizes)
    return false;
  if (a.kind == TapeValue::Kind::Constant && !at::equal(a.constant, b.constant))
    return false;
  for (size_t i = 0; i < a.meta.sizes.size(); ++i) {
    int64_t x = a.meta.sizes[i], y = b.meta.sizes[i];
    if (x == y)
      continue;
    if (!canVary(x) || !canVary(y))
      return false;
    a.meta.sizes[i] = kDynamicSize;
  }
  return true;
}

namespace {
/// One call in both tapes, and in their join.
struct CallPair {
  const Tape &a, &b;
  const Tape &joined;
  const TapeCall &x, &y;

  const TensorMeta &metaA(int value) const { return a.values[value].meta; }
  const TensorMeta &metaB(int value) const { return b.values[value].meta; }
  int input() const { return x.arguments[0].tensors[0]; }
  int result() const { return x.results[0]; }
};
} // namespace

bool pfcn::carriesLeadingSizes(at::IntArrayRef in, at::IntArrayRef out) {
  while (!in.empty() && !out.empty() && in.front() == out.front()) {
    in = in.slice(1);
    out = out.slice(1);
  }
  auto isOpen = [](at::IntArrayRef sizes) { return std::count(sizes.begin(), sizes.end(), kDynamicSize) > 0; };
  auto count = [](at::IntArrayRef sizes) { return c10::multiply_integers(sizes); };
  return isOpen(in) || isOpen(out) || count(in) == count(out);
}

/// Leading sizes are carried over as long as they are equal (where they can be: see
/// `carriesLeadingSizes`); of the others, one may be open, and follows from the number of elements.
static bool reshapeFollows(const CallPair &pair) {
  at::IntArrayRef in = pair.joined.values[pair.input()].meta.sizes, out = pair.joined.values[pair.result()].meta.sizes;
  size_t lead = 0;
  while (carriesLeadingSizes(in, out) && lead < in.size() && lead < out.size() && in[lead] == out[lead]) {
    if (pair.metaA(pair.input()).sizes[lead] != pair.metaA(pair.result()).sizes[lead] ||
        pair.metaB(pair.input()).sizes[lead] != pair.metaB(pair.result()).sizes[lead])
      return false;
    ++lead;
  }
  return std::count(out.begin() + lead, out.end(), kDynamicSize) <= 1;
}

/// Each open size is one of the operand's.
static bool expandFollows(const CallPair &pair) {
  const TensorMeta &in = pair.joined.values[pair.input()].meta, &out = pair.joined.values[pair.result()].meta;
  int64_t lead = out.rank() - in.rank();
  for (int64_t i = 0; i < out.rank(); ++i)
    if (out.sizes[i] == kDynamicSize && (i < lead || in.sizes[i - lead] != kDynamicSize))
      return false;
  return true;
}

static bool reachesEnd(const IValue &end, int64_t size) {
  return end.isNone() || (end.isInt() && (end.toInt() == kToEnd || (size != kDynamicSize && end.toInt() >= size)));
}

bool pfcn::isFactory(const std::string &name) {
  static const std::unordered_set<std::string> factories = {"aten::zeros",     "aten::ones",      "aten::empty",
                                                            "aten::full",      "aten::new_zeros", "aten::new_ones",
                                                            "aten::new_empty", "aten::new_full"};
  return factories.contains(name);
}

/// The sizes of a list that differ, left open.
static IValue joinLists(const IValue &a, const IValue &b) {
  std::vector<int64_t> sizes = a.toIntVector(), other = b.toIntVector();
  for (size_t i = 0; i < sizes.size() && i < other.size(); ++i)
    if (sizes[i] != other[i])
      sizes[i] = kDynamicSize;
  return sizes;
}

/// An argument that differs, or may: what both mean, or none.
static std::optional<IValue> joinArgument(const CallPair &pair, size_t i) {
  const IValue &a = pair.x.arguments[i].constant, &b = pair.y.arguments[i].constant;
  const std::string &name = pair.x.schema->name();
  if (name == "aten::slice" && i == 3) {
    int64_t dim = pair.x.arguments[1].constant.toInt();
    const TensorMeta &meta = pair.joined.values[pair.input()].meta;
    dim += dim < 0 ? meta.rank() : 0;
    if (meta.sizes[dim] == kDynamicSize && reachesEnd(a, pair.metaA(pair.input()).sizes[dim]) &&
        reachesEnd(b, pair.metaB(pair.input()).sizes[dim]))
      return IValue(kToEnd);
  }
  if (equal(a, b))
    return a;
  static const std::unordered_set<std::string> reshapes = {"aten::view",      "aten::reshape", "aten::_unsafe_view",
                                                           "aten::unflatten", "aten::expand",  "aten::broadcast_to"};
  if ((reshapes.contains(name) || isFactory(name)) && a.isIntList() && b.isIntList())
    return joinLists(a, b);
  return std::nullopt;
}

/// A size of a tensor argument that is what this size of a result is, in both recordings.
static std::optional<SizeOrigin> findOrigin(const CallPair &pair, int result, int dim) {
  auto ofA = pair.metaA(pair.x.results[result]).sizes[dim], ofB = pair.metaB(pair.x.results[result]).sizes[dim];
  std::vector<int> operands = pair.x.getOperands();
  for (size_t i = 0; i < operands.size(); ++i)
    for (int64_t k = 0; k < pair.metaA(operands[i]).rank(); ++k)
      if (pair.metaA(operands[i]).sizes[k] == ofA && pair.metaB(operands[i]).sizes[k] == ofB)
        return SizeOrigin{result, dim, static_cast<int>(i), static_cast<int>(k)};
  return std::nullopt;
}

/// Where open sizes of the results come from. What an earlier join found must hold for this recording too, which is
/// why that need not be a rule of the operator: every recording that a general tape stands for was looked at.
static bool joinSizes(TapeCall &call, const CallPair &pair) {
  std::vector<int> operands = pair.x.getOperands();
  for (const SizeOrigin &size : call.sizes)
    if (pair.metaB(pair.y.results[size.result]).sizes[size.dim] !=
        pair.metaB(operands[size.operand]).sizes[size.operandDim])
      return false;
  for (size_t i = 0; i < call.results.size(); ++i)
    for (int64_t dim = 0; dim < pair.metaA(call.results[i]).rank(); ++dim)
      if (pair.metaA(call.results[i]).sizes[dim] != kDynamicSize &&
          pair.joined.values[call.results[i]].meta.sizes[dim] == kDynamicSize)
        if (std::optional<SizeOrigin> size = findOrigin(pair, static_cast<int>(i), static_cast<int>(dim)))
          call.sizes.push_back(*size);
  return true;
}

static bool joinCall(TapeCall &call, const CallPair &pair) {
  const TapeCall &other = pair.y;
  if (call.schema != other.schema || call.isRandom != other.isRandom || call.results != other.results)
    return false;
  for (size_t i = 0; i < call.arguments.size(); ++i) {
    TapeArgument &argument = call.arguments[i];
    if (argument.kind != other.arguments[i].kind || argument.tensors != other.arguments[i].tensors)
      return false;
    if (argument.kind != TapeArgument::Kind::Constant)
      continue;
    std::optional<IValue> joined = joinArgument(pair, i);
    if (!joined)
      return false;
    argument.constant = *joined;
  }
  if (!joinSizes(call, pair))
    return false;
  static const std::unordered_set<std::string> reshapes = {"aten::view",      "aten::reshape",   "aten::_unsafe_view",
                                                           "aten::unflatten", "aten::flatten",   "aten::view_as",
                                                           "aten::ravel",     "aten::reshape_as"};
  const std::string &name = call.schema->name();
  if (reshapes.contains(name))
    return reshapeFollows(pair);
  if (name == "aten::expand" || name == "aten::broadcast_to")
    return expandFollows(pair);
  return true;
}

static std::optional<Tape> join(const Tape &a, const Tape &b) {
  if (a.values.size() != b.values.size() || a.calls.size() != b.calls.size() || a.inputs != b.inputs ||
      a.outputs != b.outputs || a.writes != b.writes)
    return std::nullopt;
  Tape joined = a;
  for (size_t i = 0; i < joined.values.size(); ++i)
    if (!joinValue(joined.values[i], b.values[i]))
      return std::nullopt;
  for (size_t i = 0; i < joined.calls.size(); ++i)
    if (!joinCall(joined.calls[i], {a, b, joined, a.calls[i], b.calls[i]}))
      return std::nullopt;
  return joined;
}

std::optional<Tape> pfcn::unify(const Tape &a, const Tape &b) {
  std::optional<Tape> joined = join(a, b);
  try {
    if (joined)
      buildModel(*joined);
  } catch (const OpenSizeError &) {
    return std::nullopt;
  }
  return joined;
}

bool pfcn::matches(const Tape &general, const Tape &recorded) {
  if (general.values.size() != recorded.values.size())
    return false;
  for (size_t i = 0; i < general.values.size(); ++i)
    if (!general.values[i].meta.covers(recorded.values[i].meta))
      return false;
  std::optional<Tape> joined = join(general, recorded);
  return joined && joined->getKey() == general.getKey();
}
