// Opens the files of a run, afresh or for a resume.
#include "framework/report/run_files.hpp"

#include <fmt/format.h>

#include "framework/state/files.hpp"

namespace sluice {
namespace {

namespace fs = std::filesystem;

// "metrics.jsonl", after what an earlier run left under that name has become "metrics.1.jsonl" (the first number that is free).
fs::path fresh(const fs::path& file) {
  std::error_code ignored;
  if (!fs::exists(file, ignored) || fs::file_size(file, ignored) == 0) return file;
  for (int number = 1;; ++number) {
    const auto aside = file.parent_path() / fmt::format("{}.{}{}", file.stem().string(), number, file.extension().string());
    if (fs::exists(aside, ignored)) continue;
    rename_path(system_disk(), file, aside);
    return file;
  }
}

}  // namespace

RunFiles::RunFiles(const fs::path& dir, Options options, const std::function<void(std::string_view)>& row, const std::function<void(std::string_view)>& failure)
    : metrics(options.resumed_step ? dir / "metrics.jsonl" : fresh(dir / "metrics.jsonl")),
      failures(options.resumed_step ? dir / "failures.jsonl" : fresh(dir / "failures.jsonl")) {
  if (options.resumed_step) {
    dropped = metrics.continue_from(*options.resumed_step, row);
    dropped += failures.continue_from(*options.resumed_step, failure);
  }
  if (!options.tensorboard) return;
  const bool earlier = !list_folder(system_disk(), dir / "tensorboard").empty();
  const auto purge = options.resumed_step ? std::optional(*options.resumed_step + 1) : earlier ? std::optional<std::int64_t>(0) : std::nullopt;
  events.emplace(dir / "tensorboard", purge);
}

void RunFiles::sync() {
  metrics.sync();
  failures.sync();
  if (events) events->flush();
}

}  // namespace sluice
