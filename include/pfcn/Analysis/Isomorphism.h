//===- Isomorphism.h - groups of independent, isomorphic subgraphs ----*- C++ -*-===//
//
// Finds the instances of a model: subgraphs that are equal up to their weights and inputs,
// with no path from one to another. Never rewrites. The rules F1 to F9 that a group obeys
// are stated in docs/Rationale.md.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_ANALYSIS_ISOMORPHISM_H
#define PFCN_ANALYSIS_ISOMORPHISM_H

#include "pfcn/Analysis/Classes.h"
#include "pfcn/Dialect/Pfcn.h"

#include <optional>
#include <string>

namespace mlir::func {
class FuncOp;
} // namespace mlir::func

namespace mlir::pfcn {

/// What an operand of the body is for each instance (rule F4).
struct Column {
  enum Kind {
    Shared,     ///< one value for all: `values[0]`
    Part,       ///< instance i sees the part of `whole` that begins at `starts[i]`
    Parameters, ///< a parameter of each instance's own
    Constants,  ///< a constant of each instance's own
    Results,    ///< result `slot` of instance `starts[i]` of an earlier group
    Copies      ///< arbitrary values, which have to be stacked
  };
  Kind kind = Shared;
  SmallVector<Value> values;
  Value whole;
  int64_t dim = 0, size = -1;
  SmallVector<int64_t> starts;
  unsigned group = 0, slot = 0;
};

/// An operand of an op of the body: a slot (the result of another op of the body), or a column.
struct Source {
  bool isInternal;
  unsigned index;
};

/// A size that is known before the group runs: `whole.dim(dim) * multiplier / divisor`.
struct SizeSource {
  Value whole;
  int64_t dim, multiplier = 1, divisor = 1;

  bool operator==(const SizeSource &) const = default;
};

struct Group {
  std::string name;
  unsigned stage;
  /// `instances[i][k]` is op k of instance i; the order of k is that of the first instance.
  SmallVector<SmallVector<Operation *>> instances;
  /// `operands[k][j]`: where operand j of op k comes from.
  SmallVector<SmallVector<Source>> operands;
  SmallVector<Column> columns;
  /// The results of the body's ops, one after the other: slot s of an instance is result `slots[s].second` of op
  /// `slots[s].first`. `firstSlots[k]` is the slot of op k's first result.
  SmallVector<std::pair<unsigned, unsigned>> slots;
  SmallVector<unsigned> firstSlots;
  /// The slots that are needed one by one or by other groups, and so go to a stacked tensor.
  SmallVector<unsigned> stacked;

  int64_t getCount() const { return instances.size(); }
  ArrayRef<Operation *> getBody() const { return instances.front(); }
  Value getResult(unsigned instance, unsigned slot) const {
    return instances[instance][slots[slot].first]->getResult(slots[slot].second);
  }
};

/// The part of a join that one group writes: the results of `slots`, side by side.
struct JoinPart {
  unsigned group;
  SmallVector<unsigned> slots;
  int64_t size; ///< along the joined dimension; -1 for one element of a stack
  SmallVector<int64_t> starts;
  /// The join is just what the stacked result of the group would be.
  bool isStackedResult = false;
};

/// A `cat` or `stack` all of whose operands are results of groups, which write it in place.
struct Join {
  Operation *op;
  SmallVector<JoinPart> parts;
};

/// Something that looks like an instance and is not in a group.
struct Miss {
  Operation *where;
  /// What it is compared with, if anything.
  Operation *other = nullptr;
  std::string reason, suggestion;
};

struct Groups {
  std::vector<Group> groups; // in an order in which they can run
  std::vector<Join> joins;   // in program order
  std::vector<Miss> misses;
};

/// Where a value that groups compute stands: its group, instance, and the slot of the result.
struct Place {
  unsigned group, instance, slot;
};

/// Of the ops in groups; the slot is that of their first result.
using Places = DenseMap<Operation *, Place>;

/// The place of a value; none of one that no group computes.
std::optional<Place> getPlace(const Places &places, Value value);

/// Groups the instances of a function of one block.
Groups findGroups(func::FuncOp function);

/// The source of a dynamic size, where it is found without computing `value`.
std::optional<SizeSource> findSize(Value value, int64_t dim);

/// Whether two values of one type have the same dynamic sizes whatever the inputs are.
bool haveEqualSizes(Value a, Value b);

/// Whether the op does work that pays for copying its operands into one tensor.
bool isContraction(Operation *op);

/// Whether the op only moves data.
bool isMovement(Operation *op);

} // namespace mlir::pfcn

#endif // PFCN_ANALYSIS_ISOMORPHISM_H
