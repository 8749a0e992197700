// The fold, and the bound that holds however the branches of a sample interleave.
#include "framework/flow/plan.hpp"

#include <algorithm>
#include <bit>
#include <set>

#include <fmt/format.h>

#include <sluice/boundary.hpp>

#include "framework/base/strings.hpp"
#include "framework/memory/pool.hpp"

namespace sluice {
namespace {

constexpr std::uint64_t most_bytes = std::uint64_t{1} << 52;  // so that no sum of a sample overflows
constexpr std::size_t most_plans = 4096;

std::uint64_t array_bytes(const Info& info) {
  const auto elements = static_cast<std::uint64_t>(info.shape.elements());
  if (elements > most_bytes / 8) return most_bytes;
  return FramePool::rounded(std::max<std::uint64_t>(1, elements * bytes_of(info.dtype)));
}

// Room for what a stage allocates beside its outputs, in several pieces if it likes.
std::uint64_t scratch_bytes(std::uint64_t declared) {
  constexpr std::uint64_t slack = 8 * FramePool::page;
  return declared == 0 ? 0 : FramePool::rounded(std::min(declared, most_bytes) + slack);
}

bool contains(const std::vector<int>& all, int one) { return std::find(all.begin(), all.end(), one) != all.end(); }

}  // namespace

StreamTable::StreamTable(const Dataset::Impl& dataset) {
  std::set<std::string> names;
  for (const auto& rows : dataset.rows) names.insert(rows.streams.begin(), rows.streams.end());
  if (dataset.labelled) names.insert("label");
  for (const auto& stage : dataset.wiring.stages) {
    names.insert(stage.reads.begin(), stage.reads.end());
    names.insert(stage.writes.begin(), stage.writes.end());
  }
  names_.assign(names.begin(), names.end());
}

int StreamTable::number(std::string_view name) const {
  const auto found = std::lower_bound(names_.begin(), names_.end(), name);
  return found == names_.end() || *found != name ? -1 : static_cast<int>(found - names_.begin());
}

std::vector<int> StreamTable::numbers(const std::vector<std::string>& names) const {
  std::vector<int> all;
  for (const auto& name : names) all.push_back(number(name));
  return all;
}

std::uint64_t Planner::text_bytes(std::uint64_t length) { return FramePool::rounded(length + 1); }

// One sample on its way through the declarations.
struct Planner::Fold {
  const Planner& planner;
  const SampleShape& shape;
  SamplePlan plan{};
  std::vector<std::optional<Info>> infos{};  // by stream, as of now
  std::vector<std::uint64_t> sizes{};        // likewise, in bytes as the ledger counts them
  std::vector<std::uint64_t> before{};       // sizes when the sample is admitted

  struct Event {  // a stage that writes the stream
    std::size_t stage;
    std::uint64_t transient;
  };
  std::vector<std::vector<Event>> events{};  // by stream

  // The stage that declares at the moment.
  std::size_t stage = 0;
  std::vector<int> reads{}, writes{};
  std::vector<std::optional<Info>> given{};  // what it put, by stream

  Fold(const Planner& owner, const SampleShape& what)
      : planner(owner), shape(what), infos(owner.streams_.size()), sizes(owner.streams_.size(), 0), events(owner.streams_.size()) {
    plan.stages.resize(owner.stages_.items.size());
  }

  [[nodiscard]] const StageShape& declared() const { return planner.dataset_.wiring.stages[stage]; }
  [[nodiscard]] int number(std::string_view name) const { return planner.streams_.number(name); }

  void set(int stream, Info info, std::uint64_t size) {
    infos[static_cast<std::size_t>(stream)] = std::move(info);
    sizes[static_cast<std::size_t>(stream)] = size;
  }
  void set_array(int stream, Info info) {
    const auto size = array_bytes(info);
    set(stream, std::move(info), size);
  }

  static Info numbers_along_time(DType dtype, std::int64_t count) {
    Info info;
    info.dtype = dtype;
    info.shape = {count};
    info.axes.assign(1, 'T');
    return info;
  }

  // What admission puts into the record: texts, the label, frame numbers.
  void start() {
    const auto& rows = planner.dataset_.of(shape.split);
    for (std::size_t i = 0; i < rows.streams.size(); ++i) {
      if (shape.text_bytes[i] == 0) continue;
      Info text;
      text.text = true;
      set(number(rows.streams[i]), text, shape.text_bytes[i]);
    }
    if (planner.dataset_.labelled) {
      Info label;
      label.dtype = DType::i64;
      label.shape = {1};
      set_array(number("label"), label);
    }
    for (std::size_t i = 0; i < rows.videos.size(); ++i)
      set_array(number(fmt::format("{}.frames", rows.videos[i].stream)), numbers_along_time(DType::i64, shape.videos[i].count));
    before = sizes;
  }

  [[nodiscard]] Info native(std::string_view stream) const {
    const auto& columns = planner.dataset_.of(shape.split).videos;
    for (std::size_t i = 0; i < columns.size(); ++i)
      if (columns[i].stream == stream) return Info::video(shape.videos[i].count, shape.videos[i].height, shape.videos[i].width, shape.videos[i].rate);
    return {};
  }

  static Fold& of(void* host) { return *static_cast<Fold*>(host); }
  static int get(void* host, abi::Text name, abi::Info* info, abi::Failure* failure) {
    return detail::guarded(failure, [&] {
      auto& fold = of(host);
      const auto stream = detail::text_of(name);
      const int id = fold.number(stream);
      if (id < 0 || (!contains(fold.reads, id) && !contains(fold.writes, id)))
        throw Error(Code::plugin, fmt::format("its out() asks for the stream {}, which it does not declare", in_quotes(stream)));
      const auto index = static_cast<std::size_t>(id);
      const bool decodes = fold.declared().kind == abi::Kind::decoder && std::find(fold.declared().on.begin(), fold.declared().on.end(), stream) != fold.declared().on.end();
      if (!decodes && !fold.infos[index]) throw Error(Code::plugin, fmt::format("its out() asks for the stream {}, which does not exist yet", in_quotes(stream)));
      *info = (decodes ? fold.native(stream) : *fold.infos[index]).raw();
    });
  }
  static int put(void* host, abi::Text name, const abi::Info* info, abi::Failure* failure) {
    return detail::guarded(failure, [&] {
      auto& fold = of(host);
      const auto stream = detail::text_of(name);
      const int id = fold.number(stream);
      if (id < 0 || !contains(fold.writes, id)) throw Error(Code::plugin, fmt::format("its out() declares the stream {}, which it does not write", in_quotes(stream)));
      if (info->rank > abi::max_rank || bytes_of(static_cast<DType>(info->dtype)) == 0) throw Error(Code::plugin, fmt::format("its out() declares {} with an unknown type or too many axes", in_quotes(stream)));
      fold.given[static_cast<std::size_t>(id)] = Info::from(*info);
      static_cast<void>(fold.given[static_cast<std::size_t>(id)]->shape.elements());  // refuses negative extents
    });
  }

  // Asks the stage; false when it cannot take such a sample.
  bool declare() {
    const auto& item = planner.stages_.items[stage];
    const auto& on = declared().on;
    std::vector<abi::Text> names;
    for (const auto& name : on) names.push_back(detail::text(name));
    abi::InfoMap map{sizeof(abi::InfoMap), this, &get, &put, names.data(), names.size()};
    auto failure = detail::no_failure();
    const int status = item.recipe.descriptor().stage->out(item.recipe.instance(), &map, &failure);
    if (status == 0) return true;
    const auto code = static_cast<Code>(failure.code != 0 ? failure.code : status);
    if (code != Code::data && code != Code::io) throw_failure(status, failure, fmt::format("stage {} ({})", declared().name, declared().place));
    plan.unusable = fmt::format("{}: {}", declared().name, failure.what);
    return false;
  }

  bool run_stage(std::size_t number_of_stage) {
    stage = number_of_stage;
    auto& mine = plan.stages[stage];
    mine.active = declared().runs_in(shape.split == Split::train);
    if (!mine.active || declared().at_admission()) return true;
    reads = planner.streams_.numbers(declared().reads);
    writes = planner.streams_.numbers(declared().writes);
    given.assign(infos.size(), std::nullopt);
    if (!declare()) return false;

    std::uint64_t scratch = 0;
    for (const auto& info : given)
      if (info) scratch += std::min(info->scratch, most_bytes);
    mine.scratch = scratch_bytes(scratch);
    mine.allowance = mine.scratch;
    mine.transient = mine.scratch;
    std::uint64_t beside = mine.scratch;  // counted with the first stream that it writes
    for (const int id : writes) {
      const auto index = static_cast<std::size_t>(id);
      Info out = expected(id);
      out.scratch = 0;
      const auto in_bytes = sizes[index];
      std::uint64_t out_bytes = 0;
      if (out.text) {
        out_bytes = std::max(in_bytes, text_bytes(static_cast<std::uint64_t>(out.shape.rank() > 0 ? out.shape.elements() : 0)));
        mine.texts.emplace_back(id, out_bytes);
      } else {
        out_bytes = array_bytes(out);
        mine.allowance += out_bytes;
        mine.outputs.emplace_back(id, out);
      }
      event(id, in_bytes + out_bytes + beside);
      mine.transient += in_bytes + out_bytes;
      beside = 0;
      set(id, std::move(out), out_bytes);
    }
    for (const int id : planner.streams_.numbers(declared().consumes)) {
      event(id, sizes[static_cast<std::size_t>(id)] + beside);
      beside = 0;
      infos[static_cast<std::size_t>(id)].reset();
      sizes[static_cast<std::size_t>(id)] = 0;
    }
    if (beside > 0) {  // it writes nothing: its scratch counts by itself until it is done
      plan.bound += beside;
      mine.released += beside;
    }
    return true;
  }

  // What the stage leaves in a stream: what it declared, else what was there.
  [[nodiscard]] Info expected(int id) const {
    const auto index = static_cast<std::size_t>(id);
    if (given[index]) return *given[index];
    const auto& name = planner.streams_.name(id);
    if (declared().kind == abi::Kind::decoder) {
      for (const auto& on : declared().on) {
        if (name == on) return native(name);
        if (name == fmt::format("{}.times", on)) return numbers_along_time(DType::f64, native(on).shape[0]);
      }
    }
    if (!infos[index])
      throw Error(Code::plugin, fmt::format("it writes the stream {}, and its out() does not say what that will be", in_quotes(name)),
                  fmt::format("void out(Infos& infos) const {{ infos.put(\"{}\", ...); }}", name), fmt::format("stage {} ({})", declared().name, declared().place));
    return *infos[index];
  }

  void event(int id, std::uint64_t transient) { events[static_cast<std::size_t>(id)].push_back({stage, transient}); }

  // Only the writers of a stream, which are in order, change what it holds. So the largest that it will still hold, summed over
  // the streams, bounds the sample however its branches interleave, and each writer may give back what its part shrinks by.
  void finish() {
    plan.bound += record_bytes;
    plan.place = record_bytes;
    for (std::size_t s = 0; s < events.size(); ++s) {
      auto ahead = sizes[s];
      for (auto event = events[s].rbegin(); event != events[s].rend(); ++event) {
        const auto with = std::max(ahead, event->transient);
        plan.stages[event->stage].released += with - ahead;
        ahead = with;
      }
      plan.bound += std::max(ahead, before[s]);
      if (!infos[s] || !planner.streams_.reaches_trainer(static_cast<int>(s))) continue;
      plan.place += sizes[s];
      if (!infos[s]->text) plan.final.emplace_back(static_cast<int>(s), *infos[s]);
    }
  }
};

Planner::Planner(const Dataset::Impl& dataset, const Stages& stages) : dataset_(dataset), stages_(stages), streams_(dataset) {}

SampleShape Planner::shape_of_row(Split split, std::size_t row) const {
  const auto& rows = dataset_.of(split);
  SampleShape shape;
  shape.split = split;
  for (const auto& column : rows.videos) {
    const auto& file = dataset_.files[column.files[row]];
    shape.videos.push_back({0, file.height, file.width, file.rate});
  }
  for (const auto& column : rows.texts) shape.text_bytes.push_back(column[row] == no_text ? 0 : text_bytes(dataset_.texts.length(column[row])));
  return shape;
}

SamplePlan Planner::make(const SampleShape& shape) const {
  Fold fold(*this, shape);
  fold.start();
  for (std::size_t i = 0; i < stages_.items.size(); ++i)
    if (!fold.run_stage(i)) return std::move(fold.plan);
  fold.finish();
  return std::move(fold.plan);
}

std::shared_ptr<const SamplePlan> Planner::plan(const SampleShape& shape) {
  std::vector<std::uint64_t> key{static_cast<std::uint64_t>(shape.split)};
  for (const auto& video : shape.videos) {
    key.push_back(static_cast<std::uint64_t>(video.count));
    key.push_back(static_cast<std::uint64_t>(video.height) << 32 | static_cast<std::uint64_t>(video.width));
    key.push_back(std::bit_cast<std::uint64_t>(video.rate));
  }
  key.insert(key.end(), shape.text_bytes.begin(), shape.text_bytes.end());
  if (const auto found = known_.find(key); found != known_.end()) return found->second;
  if (known_.size() >= most_plans) known_.clear();
  return known_.emplace(std::move(key), std::make_shared<const SamplePlan>(make(shape))).first->second;
}

}  // namespace sluice
