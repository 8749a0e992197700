// Trusts no return value: every stream, byte and shape is checked against what the stage declared.
#include "framework/flow/host.hpp"

#include <algorithm>
#include <cstring>
#include <new>

#include <fmt/format.h>

#include <sluice/boundary.hpp>

#include "framework/base/bytes.hpp"
#include "framework/base/strings.hpp"
#include "framework/flow/header_cache.hpp"
#include "framework/flow/order.hpp"
#include "framework/flow/patience.hpp"
#include "framework/memory/invariant.hpp"

namespace sluice {
namespace {

bool contains(const std::vector<int>& all, int one) { return std::find(all.begin(), all.end(), one) != all.end(); }

std::string shape_text(const abi::Array& raw) {
  std::string text = "[";
  for (int i = 0; i < raw.rank; ++i) text += (i ? ", " : "") + std::to_string(raw.shape[i]);
  return text + "]";
}

void give_back(abi::Array& raw) {
  if (raw.block.release) raw.block.release(raw.block.owner, raw.block.data, raw.block.bytes);
  raw.block = {};
}

}  // namespace

std::string sample_name(const Dataset::Impl& dataset, Split split, std::int64_t index) {
  const auto& rows = dataset.of(split);
  const auto row = dataset.row(split, index);
  auto where = dataset.where(rows, row);
  for (const auto& video : rows.videos) {
    if (video.files[row] == no_text) continue;
    const auto path = dataset.texts.get(dataset.files[video.files[row]].path);
    if (where.find(path) == std::string::npos) where += (where.empty() ? "" : ": ") + path;
    break;
  }
  return fmt::format("sample {} of {}{}", index, split == Split::train ? "train" : "val", where.empty() ? "" : " (" + where + ")");
}

// One call: what the plugin sees as its abi::Sample. Its functions never throw across the boundary; what the plugin breaks is
// remembered here, so that it cannot be caught and swallowed on the other side.
class StageHost::Call {
 public:
  Call(StageHost& host, SampleRecord& record) : host_(host), record_(record), plan_(record.plan->stages[host.stage_]) {
    raw_ = {sizeof(abi::Sample), record.training() ? 1u : 0u, record.number, record.epoch, this, host.on_.data(), host.on_.size(),
            &get, &take, &put, &put_text, &allocate};
  }

  [[nodiscard]] abi::Sample* raw() { return &raw_; }
  [[nodiscard]] const std::string& violation() const { return violation_; }
  [[nodiscard]] const std::string& violation_hint() const { return hint_; }
  // A stream was taken from the sample or put into it.
  [[nodiscard]] bool touched() const { return touched_; }

  // After the stage succeeded: every stream it writes is there and is what was declared.
  void check_outputs() {
    for (const auto& [id, info] : plan_.outputs) check_array(id, info);
    for (const auto& [id, bytes] : plan_.texts)
      if (stream(id).state != Stream::State::text) fail(fmt::format("it left no text in '{}'", host_.streams_.name(id)));
    for (const int id : host_.consumes_) stream(id).clear();
  }
  // After the stage returned, whether it failed or not: it kept nothing.
  void check_kept() {
    std::uint64_t left = 0;
    for (const auto& [id, info] : plan_.outputs)
      if (const auto found = host_.pool_.find(stream(id).array.data()); found && found->maker == maker() && found->tally == record_.tally.get()) left += found->bytes;
    if (const auto live = record_.tally->live(maker()); live > left) fail(fmt::format("it keeps {} of the sample's memory", format_bytes(live - left)), "arrays belong to the sample: put them into a stream or let them go");
    for (const auto& block : taken_) {
      const auto found = host_.pool_.find(block.data);
      if (found && found->serial == block.serial && !held_by_sample(block.data)) fail(fmt::format("it keeps the array that it took from '{}'", block.stream), "put it back, or let it go");
    }
  }

  struct Broken {
    std::string what;
    std::string hint;
  };

 private:
  struct Taken {
    const void* data;
    std::uint64_t serial;
    std::string stream;
  };

  static Call& of(void* host) { return *static_cast<Call*>(host); }
  [[nodiscard]] std::size_t maker() const { return host_.stage_ + 1; }
  [[nodiscard]] Stream& stream(int id) { return record_.streams_of[static_cast<std::size_t>(id)]; }
  [[noreturn]] static void fail(std::string what, std::string hint = {}) { throw Broken{std::move(what), std::move(hint)}; }

  // Runs a function of the boundary. What the plugin broke is told to it as well, but counts whatever it does with it.
  template <class Function> int at_boundary(abi::Failure* failure, Function&& function) noexcept {
    return detail::guarded(failure, [&] {
      try {
        function();
      } catch (const Broken& broken) {
        if (violation_.empty()) violation_ = broken.what, hint_ = broken.hint;
        throw Error(Code::plugin, broken.what, broken.hint);
      }
    });
  }

  int declared(abi::Text name, const std::vector<int>& among, const char* verb) const {
    const std::string text = detail::text_of(name);
    const int id = host_.streams_.number(text);
    if (id < 0 || !contains(among, id)) {
      std::string known;
      for (const int other : among) known += (known.empty() ? "" : ", ") + host_.streams_.name(other);
      fail(fmt::format("it {} the stream {}, which it does not declare", verb, in_quotes(text)), "declared: " + (known.empty() ? std::string("none") : known));
    }
    return id;
  }

  static int get(void* host, abi::Text name, abi::Array* borrowed, abi::Text* text, abi::Failure* failure) {
    return of(host).at_boundary(failure, [&] {
      auto& call = of(host);
      const auto& stream = call.stream(call.declared(name, call.host_.reads_, "reads"));
      if (stream.state == Stream::State::text && text) *text = detail::text(stream.text);
      else if (stream.state == Stream::State::array && borrowed) *borrowed = stream.array.raw();
      else fail(fmt::format("it reads {} as {}, and it is {}", in_quotes(detail::text_of(name)), borrowed ? "an array" : "a text",
                            stream.state == Stream::State::text ? "a text" : stream.state == Stream::State::array ? "an array" : "not there any more"));
    });
  }
  static int take(void* host, abi::Text name, abi::Array* owned, abi::Failure* failure) {
    return of(host).at_boundary(failure, [&] {
      auto& call = of(host);
      const int id = call.declared(name, call.host_.reads_, "reads");
      if (!contains(call.host_.writes_, id)) fail(fmt::format("it takes the stream {}, which it only declares to read", in_quotes(detail::text_of(name))), "use view(), or declare that it writes the stream");
      auto& stream = call.stream(id);
      if (stream.state != Stream::State::array) fail(fmt::format("it takes {} as an array, and it is {}", in_quotes(detail::text_of(name)), stream.state == Stream::State::text ? "a text" : "not there any more"));
      if (const auto found = call.host_.pool_.find(stream.array.data())) call.taken_.push_back({stream.array.data(), found->serial, call.host_.streams_.name(id)});
      call.touched_ = true;
      *owned = stream.array.release();
      stream.clear();
    });
  }
  static int put(void* host, abi::Text name, abi::Array* owned, abi::Failure* failure) {
    return of(host).at_boundary(failure, [&] {
      auto& call = of(host);
      struct Guard {  // the block is ours now, whatever is wrong with it
        abi::Array* raw;
        ~Guard() {
          if (raw) give_back(*raw);
        }
      } guard{owned};
      const int id = call.declared(name, call.host_.writes_, "writes");
      const auto text = in_quotes(detail::text_of(name));
      if (!owned->block.data) fail(fmt::format("it puts an array without bytes into {}", text));
      if (!owned->block.release) fail(fmt::format("it puts an array into {} that it only borrowed", text), "copy it into one from the sample's memory");
      const auto found = call.host_.pool_.find(owned->block.data);
      if (!found || found->tally != call.record_.tally.get()) fail(fmt::format("it puts an array into {} that does not come from this sample's memory", text), "get arrays from Memory::array() or Clip::make()");
      if (owned->rank > abi::max_rank || bytes_of(static_cast<DType>(owned->dtype)) == 0) fail(fmt::format("it puts an array of an unknown type or of too many axes into {}", text));
      std::uint64_t bytes = bytes_of(static_cast<DType>(owned->dtype));
      for (int i = 0; i < owned->rank; ++i) {
        const auto extent = owned->shape[i];
        if (extent < 0 || (extent > 0 && bytes > found->bytes / static_cast<std::uint64_t>(extent))) fail(fmt::format("it puts an array of shape {} into {}, larger than its memory", shape_text(*owned), text));
        bytes *= static_cast<std::uint64_t>(extent);
      }
      auto& stream = call.stream(id);
      if (stream.state == Stream::State::array && stream.array.data() == owned->block.data) fail(fmt::format("it puts an array into {} that is there already", text));
      call.touched_ = true;
      stream.clear();
      stream.array = Array(*owned);
      stream.state = Stream::State::array;
      guard.raw = nullptr;
    });
  }
  static int put_text(void* host, abi::Text name, abi::Text text, abi::Failure* failure) {
    return of(host).at_boundary(failure, [&] {
      auto& call = of(host);
      const int id = call.declared(name, call.host_.writes_, "writes");
      const auto found = std::find_if(call.plan_.texts.begin(), call.plan_.texts.end(), [&](const auto& one) { return one.first == id; });
      if (found == call.plan_.texts.end()) fail(fmt::format("it puts a text into {}, which it declared as an array", in_quotes(detail::text_of(name))));
      if (Planner::text_bytes(text.size) > found->second)
        fail(fmt::format("it puts a text of {} bytes into {}, which may hold {}", text.size, in_quotes(detail::text_of(name)), found->second - 1), "declare the longest text as the extent of its Info");
      auto& stream = call.stream(id);
      call.touched_ = true;
      std::string copy = detail::text_of(text);  // the text may be a view of the stream it goes into
      stream.clear();
      stream.text = std::move(copy);
      stream.state = Stream::State::text;
    });
  }
  static int allocate(void* host, std::uint64_t bytes, abi::Block* block, abi::Failure* failure) {
    return of(host).at_boundary(failure, [&] {
      auto& call = of(host);
      const auto made = call.host_.pool_.allocate(std::max<std::uint64_t>(1, bytes), call.record_.tally, call.maker(), call.plan_.allowance);
      if (!made)
        fail(fmt::format("it asks for {}, with {} of {} in use", format_bytes(bytes), format_bytes(call.record_.tally->live(call.maker())), format_bytes(call.plan_.allowance)),
             "declare what it makes, and what it needs beside that as scratch, in out()");
      *block = *made;
    });
  }

  [[nodiscard]] bool held_by_sample(const void* data) const {
    return std::any_of(host_.writes_.begin(), host_.writes_.end(), [&](int id) {
      const auto& stream = record_.streams_of[static_cast<std::size_t>(id)];
      return stream.state == Stream::State::array && stream.array.data() == data;
    });
  }

  void check_array(int id, const Info& info) {
    auto& stream = this->stream(id);
    const auto& name = host_.streams_.name(id);
    if (stream.state != Stream::State::array) fail(fmt::format("it left nothing in '{}'", name), "what a stage takes it puts back, or another array in its place");
    auto& array = stream.array;
    const auto shape = array.shape();
    bool same = array.dtype() == info.dtype && shape.rank() == info.shape.rank();
    for (int axis = 0; same && axis < shape.rank(); ++axis) same = info.varies(axis) ? shape[axis] <= info.shape[axis] : shape[axis] == info.shape[axis];
    if (!same)
      fail(fmt::format("it declared '{}' as {} {}{} and left {} {}", name, name_of(info.dtype), info.varying ? "up to " : "", info.shape.text(), name_of(array.dtype()), shape.text()),
           "out() says what the call operator makes; axes whose extent it cannot know are `varying`");
    if (!info.axes.empty() && !array.axes().empty() && array.axes() != info.axes) fail(fmt::format("it declared '{}' with axes {} and left {}", name, info.axes, array.axes()));
    if (!info.axes.empty() && array.axes().empty()) array.reshape(shape, info.axes);
    fit(array, FramePool::rounded(std::max<std::uint64_t>(1, info.bytes())));
  }

  // A crop in place leaves a small array in a large block; the lease counts the declared size. The copy fits: input and output
  // together are what the stage was admitted with.
  void fit(Array& array, std::uint64_t declared) {
    const auto found = host_.pool_.find(array.data());
    if (!found || found->bytes <= declared) return;
    const auto bytes = std::max<std::uint64_t>(1, array.bytes());
    const auto smaller = host_.pool_.allocate(bytes, record_.tally, maker(), plan_.allowance);
    if (!smaller) fail(fmt::format("it keeps {} of the sample's memory", format_bytes(record_.tally->live(maker()))), "arrays belong to the sample: put them into a stream or let them go");
    auto copy = Array::over(*smaller, array.dtype(), array.shape(), array.axes());
    copy.set_rate(array.rate());
    std::memcpy(copy.data(), array.data(), array.bytes());
    array = std::move(copy);
  }

  StageHost& host_;
  SampleRecord& record_;
  const StagePlan& plan_;
  abi::Sample raw_{};
  std::string violation_;
  std::string hint_;
  std::vector<Taken> taken_;
  bool touched_ = false;
};

struct StageHost::Borrowed {
  Borrowed(StageHost& stage, SampleRecord& sample) : host(stage), record(sample), scratch(sample.plan->stages[stage.stage_].scratch) {
    host.pool_.claim_outside(scratch);
    count_decoder(true);
    if (host.shape_.parallel()) {
      instance = host.item_.recipe.instance();
      return;
    }
    const std::lock_guard lock(host.mutex_);
    invariant(!host.idle_.empty(), "a stage was called more often at once than it has instances");
    instance = host.idle_.back();
    host.idle_.pop_back();
  }
  ~Borrowed() {
    count_decoder(false);
    host.pool_.return_outside(scratch);
    if (host.shape_.parallel()) return;
    const std::lock_guard lock(host.mutex_);
    host.idle_.push_back(instance);
  }
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;

  // What a decoder works in is an account of its own; other stages' scratch is the samples'.
  void count_decoder(bool begins) {
    if (host.shape_.kind != abi::Kind::decoder) return;
    const std::lock_guard lock(record.lease_mutex);
    const auto counted = record.lease.counted_as(Account::decoders);
    record.lease.count_as(Account::decoders, begins ? counted + scratch : counted - scratch);
  }

  StageHost& host;
  SampleRecord& record;
  std::uint64_t scratch;
  void* instance = nullptr;
};

StageHost::StageHost(const Dataset::Impl& dataset, Stages::Item& item, std::size_t stage, const StreamTable& streams, FramePool& pool, std::uint64_t seed)
    : dataset_(dataset), item_(item), shape_(dataset.wiring.stages[stage]), stage_(stage), streams_(streams), pool_(pool), key_(stage_key(seed, shape_.name)),
      reads_(streams.numbers(shape_.reads)), writes_(streams.numbers(shape_.writes)), consumes_(streams.numbers(shape_.consumes)) {
  for (const auto& name : shape_.on) on_.push_back(detail::text(name));
  idle_.push_back(item_.recipe.instance());
  for (const auto& recipe : item_.extra) idle_.push_back(recipe.instance());
}

std::string StageHost::where(const SampleRecord& record) const {
  return fmt::format("stage {} ({}), {}", shape_.name, shape_.place, sample_name(dataset_, record.split, record.index));
}

void StageHost::broken(const SampleRecord& record, std::string what, std::string hint) const {
  throw Error(Code::plugin, std::move(what), std::move(hint), where(record));
}

// A file that was replaced since its header was read may hold anything, and its bytes are no longer those of the lease.
void StageHost::check_file(const SampleRecord& record) const {
  const auto& columns = dataset_.of(record.split).videos;
  for (const auto& column : columns) {
    if (column.decoder != static_cast<int>(stage_)) continue;
    const auto& file = dataset_.files[column.files[dataset_.row(record.split, record.index)]];
    const auto look = look_at(dataset_.texts.get(file.path));
    if (!look.problem.empty()) throw Error(Code::data, look.problem);
    if (look.state.fingerprint() != file.fingerprint) throw Error(Code::data, "the file was replaced after its header had been read", "start again: headers are read anew");
  }
}

void StageHost::run_checked(SampleRecord& record, bool& touched) {
  if (shape_.kind == abi::Kind::decoder) check_file(record);
  Call call(*this, record);
  auto failure = detail::no_failure();
  int status = 0;
  {
    const Borrowed borrowed(*this, record);
    const auto key = random_key(key_, record.index, record.epoch, item_.config.independent ? 1 : 0);
    status = item_.recipe.descriptor().stage->run(borrowed.instance, call.raw(), &key, &failure);
  }
  touched = call.touched();
  if (!call.violation().empty()) broken(record, call.violation(), call.violation_hint());
  try {
    if (status == 0) call.check_outputs();
    call.check_kept();
  } catch (const Call::Broken& found) {
    broken(record, found.what, found.hint);
  }
  if (status != 0) throw Error(static_cast<Code>(failure.code != 0 ? failure.code : status), failure.what[0] ? failure.what : "it failed and gave no reason", failure.hint);
}

void StageHost::run(SampleRecord& record) noexcept {
  auto& state = record.states[stage_];
  try {
    // Again where the call left everything as it was.
    bool touched = false;
    with_patience([&] { run_checked(record, touched); }, [&] { return !touched && !has_state(); });
    state = StageState::done;
    if (const auto released = record.plan->stages[stage_].released; released > 0) {
      const std::lock_guard lock(record.lease_mutex);
      record.lease.shrink_to(record.lease.bytes() - released);
    }
  } catch (const Error& error) {
    state = StageState::failed;
    record.failures[stage_] = error.where().empty() ? error.at(where(record)) : error;
  } catch (const std::exception& error) {  // of the host itself: no memory for a message, a stream or an instance
    state = StageState::failed;
    record.failures[stage_].emplace(Code::plugin, error.what(), "", "stage " + shape_.name);
  }
}

void StageHost::save(SampleRecord& record) noexcept {
  try {
    std::string bytes;
    const auto write = [](void* sink, const void* data, std::uint64_t size) {
      return detail::guarded(nullptr, [&] { static_cast<std::string*>(sink)->append(static_cast<const char*>(data), size); });
    };
    auto failure = detail::no_failure();
    const int status = item_.recipe.descriptor().stage->save(item_.recipe.instance(), &bytes, write, &failure);
    throw_failure(status, failure, fmt::format("stage {} ({}), saving its state", shape_.name, shape_.place));
    record.saved[stage_] = std::move(bytes);
  } catch (const std::exception& error) {
    record.failures[stage_].emplace(Code::plugin, error.what());
  }
}

void StageHost::load(std::string_view bytes) {
  auto failure = detail::no_failure();
  const int status = item_.recipe.descriptor().stage->load(item_.recipe.instance(), bytes.data(), bytes.size(), &failure);
  throw_failure(status, failure, fmt::format("stage {} ({}), loading its state", shape_.name, shape_.place));
}

}  // namespace sluice
