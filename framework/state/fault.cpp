// The registry of fault points and the request in SLUICE_FAULT.
#include "framework/state/fault.hpp"

#include <atomic>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <set>

#include <fmt/format.h>

#include <sluice/error.hpp>

#include "framework/base/strings.hpp"

namespace sluice {
namespace {

struct Registry {
  std::mutex mutex;
  std::set<std::string, std::less<>> names;
};
Registry& registry() {
  static Registry all;
  return all;
}

struct Request {
  std::string name;
  std::int64_t time = 1;  // 0: the text after @ is no number
};
const Request& request() {
  static const Request parsed = [] {
    const char* given = std::getenv("SLUICE_FAULT");
    const std::string_view text = given ? given : "";
    const auto at = text.find('@');
    Request out{std::string(text.substr(0, at))};
    if (at != std::string_view::npos) {
      const auto number = text.substr(at + 1);
      const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), out.time);
      if (error != std::errc() || end != number.data() + number.size() || out.time < 1) out.time = 0;
    }
    return out;
  }();
  return parsed;
}

}  // namespace

std::vector<std::string> fault_points() {
  const std::lock_guard lock(registry().mutex);
  return {registry().names.begin(), registry().names.end()};
}

void check_fault_request() {
  if (!detail::faults_requested) return;
  const auto known = fault_points();
  if (request().time < 1) throw Error(Code::configuration, "the number after @ must be 1 or more", "SLUICE_FAULT=" + known.front() + "@2", "SLUICE_FAULT");
  if (std::find(known.begin(), known.end(), request().name) == known.end())
    throw Error(Code::configuration, fmt::format("there is no fault point {}", in_quotes(request().name)), "known: " + join(known, ", "), "SLUICE_FAULT");
}

namespace detail {

const bool faults_requested = std::getenv("SLUICE_FAULT") != nullptr;

bool register_fault_point(std::string_view name) {
  const std::lock_guard lock(registry().mutex);
  registry().names.emplace(name);
  return true;
}

void reach_fault_point(std::string_view name) {
  static std::atomic<std::int64_t> times{0};
  if (name != request().name || times.fetch_add(1) + 1 != request().time) return;
  std::fprintf(stderr, "fault point %.*s: ending here, as SLUICE_FAULT says\n", static_cast<int>(name.size()), name.data());
  std::abort();
}

}  // namespace detail
}  // namespace sluice
