// Everything under the one lock of a pass: what is asked for may be on its way.
#include "framework/train/offloader.hpp"

#include <algorithm>
#include <deque>
#include <unordered_map>
#include <utility>

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/Event.h>
#include <c10/core/GradMode.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <fmt/format.h>

#include <sluice/error.hpp>

#include "framework/base/bytes.hpp"
#include "framework/train/offload_store.hpp"
#include "framework/train/saved_tensors.hpp"

namespace sluice {
namespace {

using Tensors = std::vector<at::Tensor>;

constexpr std::uint64_t least_bytes = 64 * KiB;  // below, the allocator does not map blocks of their own
constexpr std::size_t copies_at_once = 2;

at::Tensor bytes_of(const c10::Storage& storage) {
  const auto length = static_cast<std::int64_t>(storage.nbytes());
  return at::empty({0}, at::TensorOptions(at::kByte).device(storage.device())).set_(storage, 0, {length}, {1});
}

}  // namespace

struct Offloader::Storage {
  Storage(const at::Tensor& tensor, std::size_t place) : device(tensor.storage()), was(tensor.storage().getWeakStorageImpl()), on(tensor.device()), bytes(tensor.storage().nbytes()), place_of(place) {}

  c10::Storage device;                             // empty while it waits in the store alone
  c10::weak_intrusive_ptr<c10::StorageImpl> was;   // who it was; so no other gets its address
  at::Device on;
  std::uint64_t bytes;
  HostBlock host{};
  std::optional<c10::Event> copied{};  // the copy that is under way, in either direction
  std::size_t place_of;                // in the order in which they left
};

// What runs on the device meanwhile.
class Offloader::Copies {
 public:
  explicit Copies(at::Device device) : device_(device), streams_(device.type()), side_(streams_.getStreamFromGlobalPool(device, false)) {}

  void out(const std::shared_ptr<Storage>& storage) {
    const c10::Stream main = streams_.getStream(device_);
    follow(main);
    {
      const c10::StreamGuard on_side(side_);
      storage->host.bytes().copy_(bytes_of(storage->device), true);
      mark(*storage);
    }
    leaving_.push_back(storage);
    while (leaving_.size() > copies_at_once) {
      // The computation waits for the copy before it may overwrite what was copied.
      leaving_.front()->copied->block(main);
      leaving_.front()->device = {};
      leaving_.front()->copied.reset();
      leaving_.pop_front();
    }
  }
  void in(Storage& storage) {
    follow(streams_.getStream(device_));
    const at::Tensor bytes = at::empty({static_cast<std::int64_t>(storage.bytes)}, at::TensorOptions(at::kByte).device(device_));
    const c10::StreamGuard on_side(side_);
    bytes.copy_(storage.host.bytes(), true);
    bytes.record_stream(side_);
    storage.device = bytes.storage();
    mark(storage);
    storage.host.reset();  // its allocator waits for the copy
  }
  void use(Storage& storage) {
    if (storage.copied && !storage.host) storage.copied->block(streams_.getStream(device_));
    if (!storage.host) storage.copied.reset();
  }

 private:
  void follow(const c10::Stream& main) {
    c10::Event so_far(device_.type());
    so_far.record(main);
    so_far.block(side_);
  }
  void mark(Storage& storage) {
    storage.copied.emplace(device_.type());
    storage.copied->record(side_);
  }

  at::Device device_;
  c10::impl::VirtualGuardImpl streams_;
  c10::Stream side_;
  std::deque<std::shared_ptr<Storage>> leaving_;
};

// One that is packed leaves when the next one comes, for the last may be what the segment returns.
class Offloader::Segment : public std::enable_shared_from_this<Segment> {
 public:
  Segment(std::shared_ptr<Offloader> pass, std::string name, const Tensors& inputs) : pass_(std::move(pass)), name_(std::move(name)) {
    for (const auto* list : {&inputs})
      for (const auto& tensor : *list) note_lasting(tensor);
    for (const auto& tensor : pass_->options_.lasting) note_lasting(tensor);
  }

  // Null: the tensor stays where it is.
  std::shared_ptr<Storage> place_of(const at::Tensor& tensor) {
    if (!tensor.has_storage() || tensor.layout() != at::kStrided || (tensor.is_leaf() && tensor.requires_grad()) || tensor.storage().nbytes() < least_bytes) return nullptr;
    const auto* impl = tensor.storage().unsafeGetStorageImpl();
    if (lasting_.contains(impl)) return nullptr;
    if (const auto known = storages_.find(impl); known != storages_.end()) return known->second;
    leave_but({});
    auto storage = std::make_shared<Storage>(tensor, 0);
    storages_.emplace(impl, storage);
    waiting_ = storage;
    return storage;
  }

  void ends(const Tensors& outputs) {
    leave_but(outputs);
    for (const auto& output : outputs) {
      const auto known = output.has_storage() ? storages_.find(output.storage().unsafeGetStorageImpl()) : storages_.end();
      if (known == storages_.end() || !known->second->host) continue;
      known->second->device = output.storage();
      known->second->copied.reset();
      known->second->host.reset();
    }
    // The hooks hold those that somebody still needs.
    storages_.clear();
    lasting_.clear();
  }

  c10::Storage storage_of(Storage& storage) {
    reached();
    return pass_->bring_back(storage);
  }
  void reached() {
    if (!std::exchange(reached_, true) && pass_->options_.observer) pass_->options_.observer->comes_back(name_);
  }
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  void note_lasting(const at::Tensor& tensor) {
    if (tensor.defined() && tensor.has_storage()) lasting_.emplace(tensor.storage().unsafeGetStorageImpl(), 0);
  }
  void leave_but(const Tensors& outputs) {
    if (!waiting_) return;
    const auto storage = std::exchange(waiting_, nullptr);
    for (const auto& output : outputs)
      if (output.has_storage() && output.storage().unsafeGetStorageImpl() == storage->device.unsafeGetStorageImpl()) return;
    pass_->leave(storage);
  }

  std::shared_ptr<Offloader> pass_;
  std::string name_;
  std::unordered_map<const c10::StorageImpl*, int> lasting_;
  std::unordered_map<const c10::StorageImpl*, std::shared_ptr<Storage>> storages_;
  std::shared_ptr<Storage> waiting_;
  bool reached_ = false;
};

class Offloader::Saved final : public SavedTensorHooks {
 public:
  explicit Saved(std::shared_ptr<Segment> segment) : segment_(std::move(segment)) {}

  void call_pack_hook(const at::Tensor& tensor) override {
    storage_ = segment_->place_of(tensor);
    version_ = tensor._version();
    if (!storage_) {
      stays_ = tensor.detach();
      return;
    }
    versions_ = tensor.unsafeGetTensorImpl()->version_counter();
    sizes_ = tensor.sizes().vec();
    strides_ = tensor.strides().vec();
    offset_ = tensor.storage_offset();
    type_ = tensor.scalar_type();
  }

  at::Tensor call_unpack_hook() override {
    if (!storage_) {
      segment_->reached();
      check(stays_._version());
      return stays_;
    }
    check(versions_.current_version());
    const c10::Storage storage = segment_->storage_of(*storage_);
    return at::empty({0}, at::TensorOptions(type_).device(storage_->on)).set_(storage, offset_, sizes_, strides_);
  }

 private:
  void check(std::uint32_t now) const {
    if (now != version_)
      throw Error(Code::plugin, fmt::format("the segment '{}' changes in place what its backward pass needs", segment_->name()), "work on a copy, e.g. relu() for relu_()");
  }

  std::shared_ptr<Segment> segment_;
  std::shared_ptr<Storage> storage_;
  at::Tensor stays_;
  c10::VariableVersion versions_{};
  std::uint32_t version_ = 0;
  std::vector<std::int64_t> sizes_, strides_;
  std::int64_t offset_ = 0;
  at::ScalarType type_ = at::kFloat;
};

Offloader::Offloader(Options options) : options_(std::move(options)) {}
Offloader::~Offloader() = default;

void Offloader::leave(const std::shared_ptr<Storage>& storage) {
  const std::lock_guard lock(mutex_);
  const c10::AutoGradMode without_gradients(false);
  storage->host = OffloadStore::instance().take(storage->bytes, storage->on);
  storage->place_of = order_.size();
  order_.push_back(storage);
  if (storage->on.is_cpu()) {
    storage->host.bytes().copy_(bytes_of(storage->device));
    storage->device = {};
    return;
  }
  if (!copies_) copies_ = std::make_unique<Copies>(storage->on);
  copies_->out(storage);
}

c10::Storage Offloader::bring_back(Storage& storage) {
  const std::lock_guard lock(mutex_);
  const c10::AutoGradMode without_gradients(false);
  const auto start = [&](Storage& one) {
    if (one.device || !one.host) return;
    // Somebody else kept it: a parameter that was looked at in another way, an output.
    if (auto alive = one.was.lock()) {
      one.device = c10::Storage(std::move(alive));
      one.host.reset();
    } else if (one.on.is_cpu()) {
      const at::Tensor bytes = at::empty({static_cast<std::int64_t>(one.bytes)}, at::TensorOptions(at::kByte));
      bytes.copy_(one.host.bytes());
      one.device = bytes.storage();
      one.host.reset();
    } else {
      copies_->in(one);
    }
  };
  start(storage);
  int ahead = options_.ahead.value_or(storage.on.is_cpu() ? 0 : 2);
  for (std::size_t i = std::min(storage.place_of, order_.size()); ahead > 0 && i-- > 0;)
    if (const auto next = order_[i].lock(); next && next->on == storage.on) {
      start(*next);
      --ahead;
    }
  if (copies_ && !storage.on.is_cpu()) copies_->use(storage);
  return storage.device;
}

Tensors Offloader::run(const std::string& name, const Function& function, const Tensors& inputs) {
  const auto segment = std::make_shared<Segment>(shared_from_this(), name, inputs);
  const SavedTensorScope scope([&] { return std::make_unique<Saved>(segment); });
  Tensors out = function(inputs);
  segment->ends(out);
  return out;
}

}  // namespace sluice
