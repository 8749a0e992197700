// Finds and loads libsluice_train.so.
#include "framework/app/train_library.hpp"

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <memory>

#include <sys/resource.h>

#include <boost/dll/shared_library.hpp>
#include <fmt/format.h>

#include <sluice/error.hpp>

#include "framework/base/bytes.hpp"
#include "framework/plugin/installation.hpp"

namespace sluice::app {
namespace {

namespace fs = std::filesystem;
namespace dll = boost::dll;

fs::path find_train_library() {
  const fs::path file = library_folder() / train_library;
  if (!fs::exists(file))
    throw Error(Code::plugin, fmt::format("{} is not in {}", train_library, library_folder().string()),
                "this sluice was built without LibTorch (SLUICE_BUILD_TRAIN=OFF), or its installation is incomplete: ./sluicew setup");
  return file;
}

const dll::shared_library& open_train_library() {
  const fs::path file = find_train_library();
  try {
    // Released, so never unloaded: LibTorch's threads and thread-locals outlive any handle.
    return *std::make_unique<dll::shared_library>(file.string(), dll::load_mode::rtld_now | dll::load_mode::rtld_global).release();
  } catch (const boost::system::system_error& error) {
    throw Error(Code::plugin, fmt::format("it cannot be loaded: {}", error.what()), "LibTorch was moved or is another one than sluice was built with: ./sluicew setup", file.string());
  }
}

// LibTorch and OpenMP do not survive a mapping or a thread that is refused: they abort, or wait for ever.
void check_address_space(const BudgetConfig& budget) {
  constexpr std::uint64_t beside_the_budget = GiB;  // mapped and never touched: libraries, stacks, arenas (about 550 MiB were measured)
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return;
  const std::uint64_t needed = budget.host_ram.value + beside_the_budget;
  if (limit.rlim_cur >= needed) return;
  throw Error(Code::configuration, fmt::format("the address space of this process is limited to {}, and a run with host_ram = {} needs {}", format_bytes(limit.rlim_cur),
                                               budget.host_ram.value == 0 ? "auto" : format_bytes(budget.host_ram.value), format_bytes(needed)),
              "ulimit -v unlimited: budget.host_ram is what keeps the memory small");
}

}  // namespace

int run_behind(TrainRequest& request, Loaded& loaded) {
  check_address_space(loaded.pipeline.budget);
  for (const auto& [name, value] : loaded.pipeline.environment) setenv(name.c_str(), value.c_str(), 1);
  request.pipeline = &loaded.pipeline;
  request.registry = &loaded.registry;
  const auto& library = open_train_library();
  loaded.registry.expect_fingerprint(library.get<const char*()>(fingerprint_entry)(), "build it again: ./sluicew setup for the built-in ones, cmake --build for your own");
  if (request.verb == TrainRequest::Verb::train) std::signal(SIGPIPE, SIG_IGN);  // a reader that goes away must not end a run
  return library.get<int(const TrainRequest&)>(train_entry)(request);
}

LibTorchReport ask_libtorch() {
  LibTorchReport report;
  open_train_library().get<void(LibTorchReport&)>(libtorch_entry)(report);
  return report;
}

int check_kernels() { return open_train_library().get<int()>(check_kernels_entry)(); }

}  // namespace sluice::app
