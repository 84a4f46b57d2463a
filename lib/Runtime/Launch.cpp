//===- Launch.cpp - calling a compiled kernel on torch tensors ---------------------===//
//
// The packed convention: pointers to begin and end, then for every memref a pointer to a
// pointer to its descriptor {allocated, aligned, offset, sizes..., strides...}.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Runtime/Launch.h"

#include "pfcn/Runtime/Parallel.h"

#include "mlir/IR/BuiltinTypes.h"

#include <ATen/Functions.h>

namespace pfcn::runtime {

//===----------------------------------------------------------------------------===//
// Access
//===----------------------------------------------------------------------------===//

Access::Access(mlir::pfcn::AccessAttr attribute, int64_t count)
    : isShared(attribute.isShared()), isSelect(attribute.isSelect()), count(count), dim(attribute.getDim()),
      size(attribute.getSize()), stride(attribute.getStride()), offset(attribute.getOffset()),
      table(attribute.getTable()) {
  if (!isView())
    indices = makeIndices();
}

at::Tensor Access::makeIndices() const {
  at::Tensor result = at::empty({count * size}, at::kLong);
  int64_t *next = result.mutable_data_ptr<int64_t>();
  for (int64_t i = 0; i < count; ++i)
    for (int64_t j = 0; j < size; ++j)
      *next++ = getStart(i) + j;
  return result;
}

at::Tensor Access::getInstance(const at::Tensor &whole, int64_t instance) const {
  if (isShared)
    return whole;
  int64_t start = getStart(instance);
  return isSelect ? whole.select(dim, start) : whole.narrow(dim, start, size);
}

/// The sizes and strides of the strided view of all instances.
static void describeView(const Access &access, const at::Tensor &whole, llvm::SmallVectorImpl<int64_t> &sizes,
                         llvm::SmallVectorImpl<int64_t> &strides) {
  if (!access.isShared) {
    sizes.push_back(access.count);
    strides.push_back(whole.stride(access.dim) * access.stride);
  }
  for (int64_t i = 0; i < whole.dim(); ++i) {
    if (!access.isShared && i == access.dim && access.isSelect)
      continue;
    sizes.push_back(!access.isShared && i == access.dim ? access.size : whole.size(i));
    strides.push_back(whole.stride(i));
  }
}

/// The same view, of which autograd knows each element. To `as_strided` elements are places in memory: where several
/// of a leaf's lie in one place, each would get the mean of their gradients.
static at::Tensor unfold(const Access &access, const at::Tensor &whole) {
  int64_t size = access.isSelect ? 1 : access.size;
  at::Tensor reached = whole.narrow(access.dim, access.offset, (access.count - 1) * access.stride + size);
  at::Tensor all = reached.unfold(access.dim, size, std::max<int64_t>(access.stride, 1)).movedim(access.dim, 0);
  std::vector<int64_t> sizes = all.sizes().vec();
  sizes[0] = access.count; // where all read one part, too
  all = all.expand(sizes);
  return access.isSelect ? all.squeeze(-1) : all.movedim(-1, access.dim + 1);
}

at::Tensor Access::getAll(const at::Tensor &whole) const {
  if (isShared)
    return whole;
  if (isView()) {
    if (whole.requires_grad() && !whole.is_non_overlapping_and_dense())
      return unfold(*this, whole);
    llvm::SmallVector<int64_t, 8> sizes, strides;
    describeView(*this, whole, sizes, strides);
    return whole.as_strided({sizes.data(), sizes.size()}, {strides.data(), strides.size()},
                            whole.storage_offset() + offset * whole.stride(dim));
  }
  at::Tensor gathered = whole.index_select(dim, indices);
  return isSelect ? gathered.movedim(dim, 0) : gathered.unflatten(dim, {count, size}).movedim(dim, 0);
}

void Access::store(const at::Tensor &whole, const at::Tensor &all) const {
  if (isView())
    getAll(whole).copy_(all);
  else if (isSelect)
    whole.index_copy_(dim, indices, all.movedim(0, dim));
  else
    whole.index_copy_(dim, indices, all.movedim(0, dim).flatten(dim, dim + 1));
}

void Access::accumulate(const at::Tensor &whole, const at::Tensor &all) const {
  at::Tensor parts = all.movedim(0, dim);
  at::Tensor where = indices.defined() ? indices : makeIndices().to(whole.device());
  whole.index_add_(dim, where, isSelect ? parts : parts.flatten(dim, dim + 1));
}

//===----------------------------------------------------------------------------===//
// Launch
//===----------------------------------------------------------------------------===//

LaunchOperand makeOperand(mlir::pfcn::AccessAttr access, int64_t count, mlir::Type type) {
  auto memref = mlir::dyn_cast<mlir::MemRefType>(type);
  TORCH_CHECK(memref, "pfcn: a kernel has an argument that is no memref");
  LaunchOperand operand{Access(access, count), memref.getShape().vec(), {}, 0};
  llvm::SmallVector<int64_t> strides;
  TORCH_CHECK(llvm::succeeded(memref.getStridesAndOffset(strides, operand.offset)),
              "pfcn: a kernel has an argument that is not strided");
  operand.strides.assign(strides.begin(), strides.end());
  return operand;
}

Launch::Launch(mlir::pfcn::LaunchOp op, mlir::FunctionType type, Kernel kernel)
    : kernel(kernel), tiles(op.getTiles()), inputCount(op.getInputs().size()) {
  size_t count = op.getInputs().size() + op.getInits().size();
  TORCH_CHECK(type.getNumInputs() == count + 2, "pfcn: kernel ", op.getKernel().str(), " takes ",
              type.getNumInputs() - 2, " tensors, and its launch has ", count);
  auto packed = op->getAttrOfType<mlir::DenseI64ArrayAttr>("pfcn.packed");
  unsigned next = 2;
  for (mlir::ArrayAttr accesses : {op.getInputAccesses(), op.getInitAccesses()})
    for (mlir::Attribute access : accesses) {
      // What is packed comes as the kernel wants it, whole.
      bool isPacked = packed && operands.size() < inputCount && packed[operands.size()] != 0;
      auto seen =
          isPacked ? mlir::pfcn::AccessAttr::getShared(op.getContext()) : mlir::cast<mlir::pfcn::AccessAttr>(access);
      operands.push_back(makeOperand(seen, op.getCount(), type.getInput(next++)));
    }
  if (auto estimate = op->getAttrOfType<mlir::FloatAttr>("pfcn.estimate"))
    microseconds = estimate.getValueAsDouble();
  if (auto equal = op->getAttrOfType<mlir::ArrayAttr>("pfcn.equal_sizes"))
    for (mlir::Attribute group : equal)
      equalSizes.push_back(mlir::cast<mlir::DenseI64ArrayAttr>(group).asArrayRef().vec());
}

namespace {

/// The memrefs of one call. Descriptors lie one behind the other in `words`.
struct Arguments {
  llvm::SmallVector<int64_t, 128> words;
  llvm::SmallVector<size_t, 16> starts;
  /// Copies that live as long as the call.
  llvm::SmallVector<at::Tensor, 2> copies;
  int64_t bytes = 0;

  int64_t getSize(int64_t operand, int64_t dim) const { return words[starts[operand] + 3 + dim]; }
};

} // namespace

/// A kernel trusts its caller with the sizes: whatever they are, they are checked here.
static void checkSizes(const LaunchOperand &operand, llvm::ArrayRef<int64_t> sizes, const at::Tensor &whole) {
  bool same = sizes.size() == operand.sizes.size();
  for (size_t i = 0; same && i < sizes.size(); ++i)
    same = mlir::ShapedType::isDynamic(operand.sizes[i]) || operand.sizes[i] == sizes[i];
  TORCH_CHECK_VALUE(same, "pfcn: a tensor of shape ", whole.sizes(),
                    " is not of the shape that its kernel was compiled for");
}

/// Whether a kernel that was compiled for these strides can read the view. The stride of a
/// dimension of size 1 is never used.
static bool fits(const LaunchOperand &operand, llvm::ArrayRef<int64_t> sizes, llvm::ArrayRef<int64_t> strides,
                 int64_t offset) {
  if (!mlir::ShapedType::isDynamic(operand.offset) && operand.offset != offset)
    return false;
  for (size_t i = 0; i < sizes.size(); ++i)
    if (!mlir::ShapedType::isDynamic(operand.strides[i]) && operand.strides[i] != strides[i] && sizes[i] > 1)
      return false;
  return true;
}

bool LaunchOperand::describe(const at::Tensor &whole, llvm::SmallVectorImpl<int64_t> &sizes,
                             llvm::SmallVectorImpl<int64_t> &viewStrides, int64_t &start) const {
  describeView(access, whole, sizes, viewStrides);
  checkSizes(*this, sizes, whole);
  start = access.isShared ? 0 : access.offset * whole.stride(access.dim);
  return fits(*this, sizes, viewStrides, start);
}

/// Appends the descriptor of the operand; false where the kernel cannot read it.
static bool append(Arguments &arguments, const LaunchOperand &operand, const at::Tensor &whole) {
  llvm::SmallVector<int64_t, 8> sizes, strides;
  int64_t offset = 0;
  if (!operand.describe(whole, sizes, strides, offset))
    return false;
  arguments.starts.push_back(arguments.words.size());
  auto data = reinterpret_cast<int64_t>(whole.const_data_ptr());
  arguments.words.append({data, data, offset});
  arguments.words.append(sizes.begin(), sizes.end());
  arguments.words.append(strides.begin(), strides.end());
  int64_t elements = whole.element_size();
  for (int64_t size : sizes)
    elements *= size;
  arguments.bytes += elements;
  return true;
}

/// An input as the kernel can read it: in place, or copied to the layout it was compiled for.
static void appendInput(Arguments &arguments, const LaunchOperand &operand, const at::Tensor &whole) {
  if (operand.access.isAffine() && append(arguments, operand, whole))
    return;
  bool gather = !operand.access.isAffine();
  at::Tensor copy = gather ? operand.access.getAll(whole).contiguous() : whole.contiguous();
  LaunchOperand plain = operand;
  if (gather)
    plain.access.isShared = true; // the copy already has the instances first
  TORCH_CHECK(append(arguments, plain, copy), "pfcn: a kernel was compiled for a layout that its input of shape ",
              whole.sizes(), " cannot have");
  arguments.copies.push_back(std::move(copy));
}

void Launch::run(TensorRange tensors) const {
  Arguments arguments;
  llvm::SmallVector<std::pair<size_t, at::Tensor>, 1> scattered; // destinations that no view describes
  for (size_t i = 0; i < inputCount; ++i)
    appendInput(arguments, operands[i], tensors[i]);
  for (size_t i = inputCount; i < operands.size(); ++i) {
    if (operands[i].access.isAffine()) {
      TORCH_CHECK(append(arguments, operands[i], tensors[i]), "pfcn: a kernel cannot write its destination in place");
      continue;
    }
    at::Tensor all = at::empty_like(operands[i].access.getAll(tensors[i]), at::MemoryFormat::Contiguous);
    LaunchOperand plain = operands[i];
    plain.access.isShared = true;
    TORCH_CHECK(append(arguments, plain, all), "pfcn: a kernel cannot write its destination");
    scattered.push_back({i, all});
  }
  for (const std::vector<int64_t> &group : equalSizes)
    for (size_t i = 2; i < group.size(); i += 2)
      TORCH_CHECK_VALUE(arguments.getSize(group[i], group[i + 1]) == arguments.getSize(group[0], group[1]),
                        "pfcn: two inputs of a kernel have ", arguments.getSize(group[0], group[1]), " and ",
                        arguments.getSize(group[i], group[i + 1]), " elements in a dimension that they share");
  runTiles(tiles, arguments.bytes, microseconds, [&](int64_t begin, int64_t end) {
    llvm::SmallVector<void *, 24> pointers, packed;
    for (size_t start : arguments.starts)
      pointers.push_back(arguments.words.data() + start);
    packed.append({&begin, &end});
    for (void *&pointer : pointers)
      packed.push_back(static_cast<void *>(&pointer));
    kernel(packed.data());
  });
  for (auto &[i, all] : scattered)
    operands[i].access.store(tensors[i], all);
}

} // namespace pfcn::runtime
