// One switch at a time: everything else stays as the plan has it, so that a row shows what that switch does.
#include "framework/train/switches.hpp"

#include <algorithm>
#include <thread>

#include <fmt/format.h>

#include <sluice/error.hpp>

#include "framework/base/strings.hpp"
#include "framework/train/precision.hpp"

namespace sluice {
namespace {

std::string quoted(const std::string& word) { return "\"" + word + "\""; }

std::string value_of(const Segments& segments) {
  if (segments.all) return "true";
  if (segments.names.empty()) return "false";
  std::vector<std::string> names;
  for (const auto& name : segments.names) names.push_back(quoted(name));
  return "[" + join(names, ", ") + "]";
}

class Finder {
 public:
  explicit Finder(const Session& session)
      : session_(session),
        pipeline_(session.pipeline),
        plan_(session.planned.plan),
        batch_(pipeline_.batch.size.value),
        over_batch_(pipeline_.model.batch_norm.mode != BatchNormConfig::Mode::frozen && session.model->batch_norms(false) > 0) {}

  Switches find() {
    out_.plan = {{"batch.size", fmt::to_string(batch_)},
                 {"batch.microbatch", fmt::to_string(plan_.microbatch)},
                 {"plan.checkpoint", value_of(plan_.segments.twice)},
                 {"plan.offload", value_of(plan_.segments.offload)},
                 {"run.precision", quoted(name_of(session_.arithmetic.precision))},
                 {"plan.layout", quoted(layout())},
                 {"budget.compute_threads", fmt::to_string(threads())},
                 {"budget.host_ram", fmt::to_string(session_.budget.host_ram)}};
    out_.rows.push_back({"as planned", {}, Learnt::same, batch_, plan_});
    microbatches();
    segments();
    precisions();
    add({{"plan.layout", quoted(wants_channels_last(pipeline_) ? "contiguous" : "channels_last")}}, Learnt::rounding);
    thread_counts();
    half_the_batch();
    return std::move(out_);
  }

 private:
  void add(Keys keys, Learnt learnt) {
    std::string text = keys.front().first + " = " + keys.front().second;
    out_.rows.push_back({std::move(text), std::move(keys), learnt, batch_, {}});
  }
  void add_microbatch(std::int64_t clips) {
    add({{"batch.microbatch", fmt::to_string(clips)}}, Learnt::rounding);
    out_.rows.back().plan = plan_;
    out_.rows.back().plan->microbatch = clips;
  }
  // The first of the keys is the one that the row is about; the other follows where it must.
  void add_segments(Keys keys, SegmentPlan segments) {
    add(std::move(keys), Learnt::same);
    out_.rows.back().plan = plan_;
    out_.rows.back().plan->segments = std::move(segments);
  }
  void leave_out(const std::string& what, const std::string& why) { out_.left_out.push_back(what + ": " + why); }

  [[nodiscard]] std::string layout() const { return wants_channels_last(pipeline_) ? "channels_last" : "contiguous"; }
  [[nodiscard]] std::int64_t threads() const { return pipeline_.budget.compute_threads.value; }

  // Why a batch cannot be cut in another way; empty where it can.
  [[nodiscard]] std::string uncut_because() const {
    if (!session_.planned.whole_because.empty()) return session_.planned.whole_because;
    if (!over_batch_) return {};
    const auto& norm = pipeline_.model.batch_norm;
    if (norm.mode == BatchNormConfig::Mode::group) return fmt::format("model.batch_norm = {{ group = {} }} is the microbatch", norm.group);
    return "batch norm over the whole batch keeps it in one piece (model.batch_norm)";
  }

  // The whole batch and its halves, down to one clip.
  void microbatches() {
    if (batch_ == 1) return;
    if (const auto because = uncut_because(); !because.empty()) return leave_out("batch.microbatch", because);
    for (std::int64_t at = batch_;; at = (at + 1) / 2) {
      if (at != plan_.microbatch) add_microbatch(at);
      if (at == 1) return;
    }
  }

  // Every activation where it is, all computed twice, all offloaded.
  void segments() {
    const auto& known = session_.planned.segments;
    const bool named = session_.planned.names_segments();
    if (!named) leave_out("plan.checkpoint", "the model names no segments");
    if (known.empty()) return;
    const auto outermost = std::count_if(known.begin(), known.end(), [](const std::string& path) { return path.find('/') == std::string::npos; });
    const auto all = [&](const Segments& of) { return of.all || static_cast<std::ptrdiff_t>(of.names.size()) == outermost; };
    const auto& [twice, offload] = plan_.segments;
    const auto with = [&](const char* key, const char* value, const char* other) {
      Keys keys{{key, value}};
      if ((std::string_view(other) == "plan.offload" ? offload : twice).any()) keys.emplace_back(other, "false");
      return keys;
    };
    if (twice.any()) add_segments(with("plan.checkpoint", "false", "plan.offload"), {});
    else if (offload.any()) add_segments(with("plan.offload", "false", "plan.checkpoint"), {});
    if (named && !all(twice)) add_segments(with("plan.checkpoint", "true", "plan.offload"), {{true, {}}, {}});
    if (session_.device_memory() > 0 && !all(offload)) add_segments(with("plan.offload", "true", "plan.checkpoint"), {{}, {true, {}}});
  }

  void precisions() {
    for (const Precision precision : {Precision::fp32, Precision::bf16, Precision::fp16}) {
      if (precision == session_.arithmetic.precision) continue;
      const std::string value = quoted(name_of(precision));
      const auto support = precision_support({precision, session_.device});
      if (support.works && support.native) add({{"run.precision", value}}, Learnt::changes);
      else leave_out("run.precision = " + value, support.why);
    }
  }

  void thread_counts() {
    const auto all = static_cast<std::int64_t>(std::thread::hardware_concurrency());
    if (threads() > 1) add({{"budget.compute_threads", "1"}}, Learnt::rounding);
    if (threads() < all) add({{"budget.compute_threads", fmt::to_string(all)}}, Learnt::rounding);
  }

  // Batch norm over the whole batch is over the half then; groups stay what they are.
  void half_the_batch() {
    const std::int64_t half = batch_ / 2;
    const auto& norm = pipeline_.model.batch_norm;
    if (half == 0) return;
    if (over_batch_ && norm.mode == BatchNormConfig::Mode::group && norm.group > half) return leave_out("batch.size", fmt::format("a group of batch norm is {}", counted(static_cast<std::uint64_t>(norm.group), "clip")));
    Keys keys{{"batch.size", fmt::to_string(half)}};
    if (plan_.microbatch > half) keys.emplace_back("batch.microbatch", fmt::to_string(half));
    add(std::move(keys), Learnt::changes);
    out_.rows.back().batch = half;
  }

  const Session& session_;
  const Pipeline& pipeline_;
  const TrainingPlan& plan_;
  std::int64_t batch_;
  bool over_batch_;  // batch norm takes its statistics over clips of a batch
  Switches out_;
};

}  // namespace

std::vector<std::string> Switches::overrides(const Switch& row) const {
  std::vector<std::string> words;
  for (const Keys* keys : {&plan, &row.keys})
    for (const auto& [key, value] : *keys) {
      std::erase_if(words, [&key = key](const std::string& word) { return word.starts_with(key + "="); });
      words.push_back(key + "=" + value);
    }
  return words;
}

Switches switches_of(const Session& session) {
  if (session.chunking.on())
    throw Error(Code::configuration, fmt::format("--measure takes steps of whole clips, and this pipeline's go through in chunks of {} frames", session.chunking.frames),
                "sluice train FILE run.steps=4 plan.chunk=N run.dir=/tmp/try shows the memory and the time of one size of chunk");
  if (!session.device.is_cpu()) throw Error(Code::configuration, fmt::format("--measure reads the memory of a process, and {} has its own", session.device.str()), "write run.device = \"cpu\"", session.pipeline.run.device.place.text());
  return Finder(session).find();
}

}  // namespace sluice
