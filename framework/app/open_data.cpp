// Opens a pipeline's data, with a line of progress on a terminal.
#include "framework/app/open_data.hpp"

#include <cstdio>

#include <fmt/format.h>
#include <unistd.h>

#include "framework/base/cache_folder.hpp"
#include "framework/base/clock.hpp"
#include "framework/flow/workers.hpp"

namespace sluice::app {
namespace {

// One line that is written over; nothing where nobody looks.
class ProgressLine {
 public:
  void show(const std::string& what, double fraction) {
    if (!terminal_ || (shown_ && since_.seconds() < 0.1)) return;
    fmt::print(stderr, "\r\033[K{} {:.0f} %", what, fraction * 100);
    std::fflush(stderr);
    shown_ = true;
    since_.restart();
  }
  ~ProgressLine() {
    if (shown_) fmt::print(stderr, "\r\033[K");
  }

 private:
  bool terminal_ = ::isatty(STDERR_FILENO) == 1;
  bool shown_ = false;
  Stopwatch since_;
};

}  // namespace

OpenData open_data(Registry& registry, const Pipeline& pipeline) {
  OpenData data;
  data.stages = Stages::load(registry, pipeline);
  ProgressLine line;
  Dataset::Options options;
  options.cache_dir = cache_folder();
  options.workers = workers_of(pipeline.budget);
  options.seed = static_cast<std::uint64_t>(pipeline.run.seed.value);
  options.eval_clips = pipeline.eval.clips.value;
  options.progress = [&line](const std::string& what, double fraction) { line.show(what, fraction); };
  data.dataset = std::make_unique<Dataset>(Recipe(registry, pipeline.data), data.stages, options);
  return data;
}

}  // namespace sluice::app
