// No kernel in reduced precision is trusted unchecked: those that a network calls are compared with fp32 before the first step, in a
// child process, since a wrong one may also corrupt memory or crash. What was found out is kept for the next start.
//
//   const auto calls = calls_of([&] { forward_in(arithmetic, model, inputs, pass); });
//   const auto audit = audit_kernels(calls, {.program = "/proc/self/exe", .cache = cache_folder(), .child_memory = 200 * MiB});
//   KernelRoutes::instance().trust(audit.trust);
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "framework/train/kernel_call.hpp"
#include "framework/train/kernel_check.hpp"
#include "framework/train/kernel_routes.hpp"

namespace sluice {

// The watched calls in reduced precision that `pass` makes on this thread, each once, and each with one clip too.
[[nodiscard]] std::vector<KernelCall> calls_of(const std::function<void()>& pass);

struct AuditOptions {
  std::filesystem::path program;   // that runs check_kernels_in_child() when called with `arguments`
  std::vector<std::string> arguments{"check-kernels"};
  std::filesystem::path cache{};   // folder; empty: nothing is kept
  std::uint64_t child_memory = 0;  // all that the child may take; too little: what it is short for is not trusted
  std::uint64_t spare = 0;         // what another may take then, to find out how much is enough
  std::int64_t threads = 1;        // of the trainer: kernels differ with it
  std::function<void(double fraction)> progress{};
};

struct KernelAudit {
  std::unordered_map<std::string, KernelRoutes::Trust> trust;  // by the call's text
  // In words, sorted: what is computed in another way. The same whenever it is found out, so that a resumed run can be compared.
  std::vector<std::string> routed;
  std::vector<std::string> why;  // the same with the errors that were seen
  std::uint64_t child_needs = 0;    // where memory was short: with so much it is not, as far as that could be found out; 0: it was not
  std::int64_t checked = 0;         // by a child of this process; the others were known
};
[[nodiscard]] KernelAudit audit_kernels(const std::vector<KernelCall>& calls, const AuditOptions& options);

// The child: reads the calls from standard input, writes a line of errors for each to standard output. Returns its exit code.
[[nodiscard]] int check_kernels_in_child();

}  // namespace sluice
