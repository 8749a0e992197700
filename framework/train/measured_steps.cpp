// The child trains with the trainer's own Step, cap and plan. Its learning rate is 0 and its gradients are set to zero before the update: zeros teach
// nothing, and what they would do to a network over many layers of batch norm is no number.
#include "framework/train/measured_steps.hpp"

#include <malloc.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <numeric>
#include <system_error>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/ops/_foreach_zero.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <sluice/error.hpp>

#include "framework/base/bytes.hpp"
#include "framework/base/child_process.hpp"
#include "framework/base/clock.hpp"
#include "framework/memory/process.hpp"
#include "framework/train/capped_allocator.hpp"
#include "framework/train/loss_of_zeros.hpp"
#include "framework/train/lost_device.hpp"
#include "framework/train/session.hpp"
#include "framework/train/step.hpp"

namespace sluice {
namespace {

using Json = nlohmann::json;

// After one that warms up: a few, more where they are short or others disturb them, fewer where they take long.
constexpr std::size_t few_steps = 3, most_steps = 30;
constexpr double a_while = 1, patience = 6, long_enough = 60;  // seconds

Json to_json(const MeasuredSteps& found) {
  return {{"fits", found.fits}, {"peak_resident", found.peak_resident}, {"seconds", found.seconds}, {"steps", found.steps}, {"waited", found.waited}, {"smallest", found.smallest}, {"again", found.again}, {"why", found.why}};
}

MeasuredSteps from_json(const Json& json) {
  return {json.at("fits"), json.at("peak_resident"), json.at("seconds"), json.at("steps"), json.at("waited"), json.at("smallest"), json.at("again").get<std::map<std::string, double, std::less<>>>(), json.at("why")};
}

// Seconds that threads of this process were ready to run and had no processor, all together; 0 where the kernel does not say.
double waited_so_far() {
  double all = 0;
  std::error_code ignored;
  for (const auto& thread : std::filesystem::directory_iterator("/proc/self/task", ignored)) {
    std::ifstream file(thread.path() / "schedstat");
    double ran = 0, waited = 0;
    if (file >> ran >> waited) all += waited * 1e-9;
  }
  return all;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

// Times the second runs of segments. Kernels of a CPU are done when they return.
class SecondRuns final : public SegmentObserver {
 public:
  void begins(const std::string&) override {}
  void ends(const std::string&, const std::vector<at::Tensor>&) override {}
  void saves_output(const std::string&) override {}
  void comes_back(const std::string&) override {}
  void runs_again(const std::string& path, bool begins) override {
    if (path.find('/') != std::string::npos) return;
    if (begins) watch_.restart();
    else seconds_[path] += watch_.seconds();
  }
  void forget() { seconds_.clear(); }
  [[nodiscard]] const std::map<std::string, double, std::less<>>& seconds() const { return seconds_; }

 private:
  Stopwatch watch_;
  std::map<std::string, double, std::less<>> seconds_;
};

class StepsOverZeros {
 public:
  StepsOverZeros(Session& session, Housekeeping& housekeeping)
      : session_(session), housekeeping_(housekeeping), loss_(*session.loss), step_(*session.model, loss_, *session.optimizer, options()) {
    for (auto& weight : session.model->weights()) weights_.push_back(weight.tensor);
    const std::int64_t size = session.pipeline.batch.size.value, each = session.planned.plan.microbatch;
    for (std::int64_t at = 0; at < size; at += each)
      microbatches_.emplace_back([&assembler = *session.train_assembler, clips = std::min(each, size - at)] { return assembler.zeros(clips, assembler.largest()); });
  }

  void take() {
    const auto go_on = [this] {
      housekeeping_.progress();
      return true;
    };
    StepResult result = step_.accumulate(microbatches_, go_on, session_.pipeline.batch.size.value);
    std::vector<at::Tensor> gradients;
    for (auto& weight : weights_)
      if (weight.grad().defined()) gradients.push_back(weight.mutable_grad());
    if (!gradients.empty()) at::_foreach_zero_(gradients);
    result.loss = 0;
    step_.commit(result, 0);
  }
  [[nodiscard]] SecondRuns& second_runs() { return second_runs_; }

 private:
  [[nodiscard]] StepOptions options() {
    StepOptions options;
    options.observer = &second_runs_;
    options.microbatch = session_.planned.plan.microbatch;
    options.clip_norm = session_.pipeline.optimizer.clip_norm.value;
    options.classes = session_.classes();
    options.segments = session_.planned.plan.segments;
    options.arithmetic = session_.arithmetic;
    return options;
  }

  Session& session_;
  Housekeeping& housekeeping_;
  LossOfZeros loss_;
  SecondRuns second_runs_;
  Step step_;
  std::vector<at::Tensor> weights_;
  std::vector<std::function<Microbatch()>> microbatches_;
};

// Times of steps. Those that others disturbed count only where there are no others.
class Timing {
 public:
  void add(double seconds, double waited) {
    all_.add(seconds, waited);
    if (waited <= busy * seconds) calm_.add(seconds, waited);
  }
  [[nodiscard]] bool enough() const {
    const std::size_t count = all_.seconds.size();
    const double so_far = all_.sum();
    if (count == 0) return false;
    if (so_far >= long_enough || count >= most_steps) return true;
    return count >= few_steps && so_far >= a_while && (calm_.seconds.size() >= few_steps || so_far >= patience);
  }
  void write(MeasuredSteps& found) const {
    const Steps& steps = calm_.seconds.empty() ? all_ : calm_;
    found.seconds = median(steps.seconds);
    found.waited = steps.waited / steps.sum();
    found.steps = static_cast<int>(steps.seconds.size());
  }

 private:
  struct Steps {
    std::vector<double> seconds;
    double waited = 0;  // seconds of all
    void add(double one, double of_it) {
      seconds.push_back(one);
      waited += of_it;
    }
    [[nodiscard]] double sum() const { return std::accumulate(seconds.begin(), seconds.end(), 0.0); }
  };
  Steps all_, calm_;
};

MeasuredSteps measure(Session& session, Housekeeping& housekeeping) {
  MeasuredSteps found;
  found.smallest = session.budget.smallest;
  StepsOverZeros steps(session, housekeeping);
  CappedAllocator::install().trim();
  malloc_trim(0);
  static_cast<void>(reset_peak_resident());  // where the kernel does not allow it, the start counts too
  steps.take();
  steps.second_runs().forget();
  Timing timing;
  while (!timing.enough()) {
    const double waited = waited_so_far();
    const Stopwatch one;
    steps.take();
    const double seconds = one.seconds();
    timing.add(seconds, std::clamp(waited_so_far() - waited, 0.0, seconds));
  }
  found.peak_resident = peak_resident_bytes();
  timing.write(found);
  if (session.planned.plan.segments.twice.all) found.again = steps.second_runs().seconds();
  found.fits = true;
  return found;
}

// "the line that says what is wrong", without what follows it.
std::string first_line(std::string text) {
  text = text.substr(0, text.find('\n'));
  return text.starts_with("error: ") ? text.substr(7) : text;
}

std::string why_it_ended(const ChildProcess::End& end, const std::string& errors) {
  if (end.signal == SIGKILL) return "killed (SIGKILL), as a system does that is short of memory";
  if (end.signal != 0) return fmt::format("ended by signal {} ({})", end.signal, strsignal(end.signal));
  return errors.empty() ? fmt::format("ended with code {} and no result", end.code) : first_line(errors);
}

}  // namespace

MeasuredSteps measure_in_child(const ChildOptions& options) {
  MeasuredSteps failed;
  ChildProcess child({.program = options.program, .arguments = options.arguments, .keep_errors = true});
  const Stopwatch watch;
  while (child.open()) {
    if (options.heartbeat) options.heartbeat();
    if (watch.seconds() > options.longest) {
      failed.why = fmt::format("no result after {}, so it was ended", format_duration(options.longest));
      return failed;
    }
    const auto line = child.line(std::min(0.5, options.longest));
    if (!line || !line->starts_with('{')) continue;
    try {
      return from_json(Json::parse(*line));
    } catch (const std::exception& error) {
      failed.why = fmt::format("its result cannot be read: {}", error.what());
      return failed;
    }
  }
  failed.why = why_it_ended(child.end(), child.errors());
  return failed;
}

int measure_plan_in_child(const TrainRequest& request, Housekeeping& housekeeping, Reporter& reporter) {
  MeasuredSteps found;
  try {
    Session session(request, reporter, {.progress = [&] { housekeeping.progress(); }});
    if (session.chunking.on()) throw Error(Code::configuration, fmt::format("only chunks of {} fit", session.chunking.frames));
    found = on_device([&] { return DeviceUse{session.device, "a measured step"}; }, [&] { return measure(session, housekeeping); });
  } catch (const BudgetError& error) {
    found.smallest = error.smallest();
    found.why = fmt::format("needs {}", format_bytes(error.smallest()));
  } catch (const c10::OutOfMemoryError& error) {
    found.why = fmt::format("out of memory in a step: {}", first_line(error.what_without_backtrace()));
  }
  fmt::print("{}\n", to_json(found).dump(-1, ' ', false, Json::error_handler_t::replace));
  std::fflush(stdout);
  return 0;
}

}  // namespace sluice
