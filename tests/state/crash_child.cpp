// The run that fault_points_test ends at every fault point: rounds of load, set aside, save, prune. Says on standard output what is durable.
//   crash_child FOLDER ROUNDS    crash_child --list
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "checkpoint_content.hpp"
#include "framework/state/checkpoint.hpp"
#include "framework/state/fault.hpp"

#include <sluice/error.hpp>

using namespace sluice;
using sluice::testing::KnownContent;

namespace {

int run(const std::filesystem::path& folder, int rounds) {
  check_fault_request();
  for (int round = 0; round < rounds; ++round) {
    CheckpointStore store(folder, {.keep = 1});
    const auto found = store.newest();
    const auto step = found.checkpoint ? found.checkpoint->step() : 0;
    if (found.checkpoint) {
      if (const auto text = KnownContent(step).difference(*found.checkpoint); !text.empty()) {
        std::printf("wrong %s\n", text.c_str());
        return 1;
      }
    }
    store.continue_from(step);
    store.save(KnownContent(step + 1).content(), {.best = true});
    std::printf("durable %lld\n", static_cast<long long>(step + 1));
    std::fflush(stdout);
    std::filesystem::create_directory(folder / "step-900");  // a later one that does not verify
    std::filesystem::create_directory(folder / "step-901.tmp");
  }
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  try {
    if (count == 2 && std::string_view(arguments[1]) == "--list") {
      for (const auto& name : fault_points()) std::puts(name.c_str());
      return 0;
    }
    return count == 3 ? run(arguments[1], std::atoi(arguments[2])) : 2;
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return static_cast<int>(error.code());
  }
}
