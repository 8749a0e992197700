// Named places at which a test ends the process: fault_point<"checkpoint.renamed">() aborts there when SLUICE_FAULT names it.
// Costs one load where SLUICE_FAULT is not set. The names are known before any is reached, so a test can go through them all.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

// SLUICE_FAULT=name aborts at the first time, name@3 at the third time that the point is reached.
// All points of the libraries loaded so far, sorted.
[[nodiscard]] std::vector<std::string> fault_points();
// Throws Error(Code::configuration) when SLUICE_FAULT names no point. Call it once all libraries are loaded.
void check_fault_request();

namespace detail {

template <std::size_t N> struct FaultName {
  char text[N];
  constexpr FaultName(const char (&name)[N]) { std::copy_n(name, N, text); }
};
bool register_fault_point(std::string_view name);
extern const bool faults_requested;
void reach_fault_point(std::string_view name);

template <FaultName name> struct FaultPoint {
  static inline const bool registered = register_fault_point(name.text);
};

}  // namespace detail

template <detail::FaultName name> void fault_point() {
  static_cast<void>(detail::FaultPoint<name>::registered);
  if (detail::faults_requested) [[unlikely]] detail::reach_fault_point(name.text);
}

}  // namespace sluice
