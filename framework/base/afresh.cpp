// One variable of the environment tells the process that follows: it is set for no child.
#include "framework/base/afresh.hpp"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <string>
#include <system_error>
#include <vector>

#include <sys/auxv.h>
#include <unistd.h>

#include "framework/base/strings.hpp"

namespace sluice {
namespace {

constexpr const char* variable = "SLUICE_BEGAN_AFRESH";  // how often, and what was said, a line each
constexpr int most_times = 3;
constexpr std::size_t most_bytes = 64 * 1024;  // the system takes twice as many in a variable

// Free memory and seconds are others the second time.
std::string without_figures(std::string_view line) {
  std::string out;
  for (const char letter : line)
    if (std::isdigit(static_cast<unsigned char>(letter)) == 0 && letter != '\n') out += letter;
  return out;
}

struct State {
  State() {
    const char* text = std::getenv(variable);
    if (text == nullptr) return;
    for (const auto& line : split(text, '\n'))
      if (times == 0) times = std::clamp(std::atoi(std::string(line).c_str()), 1, most_times);
      else if (!line.empty()) before.emplace_back(line);
    said = before;
    unsetenv(variable);
  }
  std::mutex mutex;
  int times = 0;
  bool listens = true;
  std::vector<std::string> before, said;
};

State& state() {
  static State state;
  return state;
}

}  // namespace

bool began_afresh() {
  const std::lock_guard lock(state().mutex);
  return state().times > 0;
}

bool may_begin_afresh() {
  const std::lock_guard lock(state().mutex);
  return state().times < most_times;
}

bool was_said(std::string_view line) {
  const std::lock_guard lock(state().mutex);
  if (!state().listens) return false;
  const std::string words = without_figures(line);
  auto& before = state().before;
  const auto found = std::find(before.begin(), before.end(), words);
  if (found != before.end()) {
    before.erase(found);
    return true;
  }
  state().said.push_back(words);
  return false;
}

void speaks_for_itself() {
  const std::lock_guard lock(state().mutex);
  state().listens = false;
  state().before.clear();
  state().said.clear();
}

void begin_afresh(char** arguments) {
  std::string lines;
  // The loader, started as a program with this one as its argument, would take the next argument for the program.
  const bool by_loader = getauxval(AT_BASE) == 0;
  {
    const std::lock_guard lock(state().mutex);
    lines = std::to_string(state().times + 1) + '\n';
    state().times = most_times;
    for (const auto& line : state().said)
      if (lines.size() + line.size() < most_bytes) lines += line + '\n';
    // Where the system refuses, this process says them once more.
    state().before = std::move(state().said);
  }
  if (by_loader) return;
  setenv(variable, lines.c_str(), 1);
  std::error_code ignored;
  // By its own name, which is what ps shows.
  const auto program = std::filesystem::read_symlink("/proc/self/exe", ignored);
  if (!program.empty()) ::execv(program.c_str(), arguments);
  ::execv("/proc/self/exe", arguments);
  unsetenv(variable);
}

}  // namespace sluice
