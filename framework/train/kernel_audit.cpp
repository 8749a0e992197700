// The child answers a line a kernel, so where it dies is known: that kernel is not trusted, and another child goes on behind it. One for
// which memory was short has no verdict: what a network computes must not follow from the memory there was, so another child finds out how
// much would have been enough, and who asked refuses the run.
#include "framework/train/kernel_audit.hpp"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <new>
#include <optional>

#include <ATen/core/Tensor.h>
#include <ATen/record_function.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <torch/version.h>

#include <sluice/error.hpp>

#include "framework/base/bytes.hpp"
#include "framework/base/child_process.hpp"
#include "framework/base/log.hpp"
#include "framework/state/files.hpp"
#include "framework/state/hash.hpp"
#include "framework/train/capped_allocator.hpp"
#include "framework/train/threads.hpp"

namespace sluice {
namespace {

using Json = nlohmann::ordered_json;

thread_local std::vector<KernelCall>* recorded = nullptr;

std::unique_ptr<at::ObserverContext> note_call(const at::RecordFunction& function) {
  if (!recorded || !KernelCall::is_watched(function.name())) return nullptr;
  const auto inputs = function.inputs();
  KernelCall call = KernelCall::of(function.name(), {inputs.data(), inputs.size()});
  if (call.is_reduced() && std::find(recorded->begin(), recorded->end(), call) == recorded->end()) recorded->push_back(std::move(call));
  return nullptr;
}

constexpr double unknown = std::numeric_limits<double>::infinity();

// JSON has no infinity.
double to_write(double error) { return std::min(error, 1e30); }

Json to_json(const KernelErrors& errors) {
  return {{"output", to_write(errors.output)}, {"input_gradient", to_write(errors.input_gradient)}, {"weight_gradient", to_write(errors.weight_gradient)}, {"products", to_write(errors.products)}};
}

KernelErrors errors_from(const Json& json) { return {json.at("output"), json.at("input_gradient"), json.at("weight_gradient"), json.at("products")}; }

// What another processor or library may do otherwise.
std::string machine(std::int64_t threads) {
  std::ifstream file("/proc/cpuinfo");
  std::string text = fmt::format("1 torch {} threads {}\n", TORCH_VERSION, threads);
  for (std::string line; std::getline(file, line) && !line.empty();)
    if (line.starts_with("model name") || line.starts_with("flags") || line.starts_with("Features") || line.starts_with("stepping") || line.starts_with("microcode")) text += line + "\n";
  return text;
}

class Verdicts {
 public:
  Verdicts(const std::filesystem::path& folder, std::int64_t threads) : machine_(machine(threads)) {
    if (folder.empty()) return;
    file_ = folder / ("kernels-" + hash_of(machine_) + ".json");
    try {
      const auto json = Json::parse(read_file(system_disk(), file_, 16 * MiB));
      if (json.at("machine").get<std::string>() != machine_ || json.at("check").get<std::string>() != hash_of(json.at("kernels").dump())) return;
      for (const auto& [text, errors] : json.at("kernels").items()) known_[text] = errors_from(errors);
    } catch (const std::exception&) {
      known_.clear();
    }
  }
  [[nodiscard]] const KernelErrors* find(const std::string& text) const {
    const auto found = known_.find(text);
    return found == known_.end() ? nullptr : &found->second;
  }
  void add(const std::string& text, const KernelErrors& errors) { known_[text] = errors; }
  void save() const {
    if (file_.empty()) return;
    Json kernels = Json::object();
    for (const auto& [text, errors] : known_) kernels[text] = to_json(errors);
    try {
      make_folders(system_disk(), file_.parent_path());
      write_file(system_disk(), file_, Json{{"machine", machine_}, {"check", hash_of(kernels.dump())}, {"kernels", kernels}}.dump(1));
    } catch (const std::exception&) {
    }
  }

 private:
  std::string machine_;
  std::filesystem::path file_;
  std::map<std::string, KernelErrors> known_;
};

// What a child takes beside its tensors: LibTorch, and code that oneDNN generates. 129 MiB were measured.
constexpr std::uint64_t child_base = 160 * MiB, least_for_tensors = 16 * MiB;
constexpr double longest_check = 120;  // seconds for one kernel

constexpr const char* out_of_memory = "memory";  // what a child says of a kernel for which it had too little

struct Found {
  std::optional<KernelErrors> errors{};
  bool short_of_memory = false;
  std::uint64_t peak = 0;  // of the tensors
};

// As far as a child comes with so much memory; nothing behind the kernel at which the last one died.
std::vector<Found> errors_of(const std::vector<KernelCall>& calls, const AuditOptions& options, std::uint64_t memory) {
  std::vector<Found> found;
  while (found.size() < calls.size()) {
    Json input{{"threads", options.threads}, {"cap", memory - child_base}, {"calls", Json::array()}};
    for (std::size_t i = found.size(); i < calls.size(); ++i) input["calls"].push_back(calls[i].text());
    ChildProcess child({.program = options.program, .arguments = options.arguments, .input = input.dump()});
    bool started = false;
    while (found.size() < calls.size()) {
      if (options.progress) options.progress(static_cast<double>(found.size()) / static_cast<double>(calls.size()));
      const auto line = child.line(longest_check);
      if (!line) break;
      if (*line == "ready") {
        started = true;
        continue;
      }
      if (*line == out_of_memory) {
        found.push_back({.short_of_memory = true});
        continue;
      }
      try {
        const auto json = Json::parse(*line);
        found.push_back({.errors = errors_from(json), .peak = json.value("peak", std::uint64_t{0})});
      } catch (const std::exception&) {
        break;
      }
    }
    if (!started) break;  // no child can be had: what is not known is not trusted
    if (found.size() == calls.size()) break;
    // Killed from outside, as a system does that is short of memory, it says nothing of the kernel.
    const bool killed = !child.open() && child.end().signal == SIGKILL;
    found.push_back({.errors = killed ? std::nullopt : std::optional(KernelErrors{unknown, unknown, unknown, unknown})});
  }
  return found;
}

// What a child would have needed for these; where no larger one can be tried, more than there was.
std::uint64_t enough_for(const std::vector<KernelCall>& calls, const AuditOptions& options) {
  if (options.spare < child_base + least_for_tensors) return std::max(child_base + least_for_tensors, options.child_memory + MiB);
  std::uint64_t most = least_for_tensors;
  for (const auto& found : errors_of(calls, options, options.spare)) most = std::max(most, found.short_of_memory ? options.spare - child_base + MiB : found.peak);
  return child_base + most;
}

std::string number(double error) { return error < 10 ? fmt::format("{:.3g}", error) : "not finite"; }

// `errors`: of the kernel; null where they are not known, or not asked for.
std::string describe(const KernelCall& call, const KernelRoutes::Trust& trust, const KernelErrors* errors, bool checked) {
  if (!checked) return call.words() + ": could not be checked, computed in fp32";
  std::string text = call.words() + ":";
  const auto add = [&](bool trusted, const char* what, double KernelErrors::* error, const char* instead) {
    if (!trusted)
      text += fmt::format("{} its {} is wrong on this machine{}, computed {}", text.back() == ':' ? "" : ";", what, errors ? fmt::format(" (relative error {})", number(errors->*error)) : "", instead);
  };
  add(trust.output, "output", &KernelErrors::output, "in fp32");
  add(trust.input_gradient, "input gradient", &KernelErrors::input_gradient, "in fp32");
  add(trust.weight_gradient, "weight gradient", &KernelErrors::weight_gradient, trust.products ? "by matrix products" : "in fp32");
  return text;
}

}  // namespace

std::vector<KernelCall> calls_of(const std::function<void()>& pass) {
  std::vector<KernelCall> calls;
  recorded = &calls;
  const auto handle = at::addThreadLocalCallback(at::RecordFunctionCallback(note_call).needsInputs(true).scopes({at::RecordScope::FUNCTION}));
  const auto end = [&] {
    at::removeCallback(handle);
    recorded = nullptr;
  };
  try {
    pass();
  } catch (...) {
    end();
    throw;
  }
  end();
  for (std::size_t i = 0, before = calls.size(); i < before; ++i)
    if (auto one = calls[i].with_one_clip(); one && std::find(calls.begin(), calls.end(), *one) == calls.end()) calls.push_back(std::move(*one));
  return calls;
}

KernelAudit audit_kernels(const std::vector<KernelCall>& calls, const AuditOptions& options) {
  KernelAudit audit;
  Verdicts verdicts(options.cache, options.threads);
  std::vector<KernelCall> unknown_calls;
  for (const auto& call : calls)
    if (!verdicts.find(call.text())) unknown_calls.push_back(call);
  if (!unknown_calls.empty()) {
    const bool has_room = options.child_memory >= child_base + least_for_tensors;
    const auto found = has_room ? errors_of(unknown_calls, options, options.child_memory) : std::vector<Found>(unknown_calls.size(), {.short_of_memory = true});
    std::vector<KernelCall> larger;
    for (std::size_t i = 0; i < found.size(); ++i) {
      if (found[i].short_of_memory) larger.push_back(unknown_calls[i]);
      if (!found[i].errors) continue;
      verdicts.add(unknown_calls[i].text(), *found[i].errors);
      ++audit.checked;
    }
    if (audit.checked > 0) verdicts.save();
    if (!larger.empty()) audit.child_needs = enough_for(larger, options);
    if (options.progress) options.progress(1);
  }
  std::map<std::string, std::string> lines;  // one for a kernel that is wrong with one clip and with several
  for (const auto& call : calls) {
    const auto* errors = verdicts.find(call.text());
    const auto type = std::get<TensorShape>(call.arguments.front()).type;
    const auto trust = errors ? judge(*errors, type) : KernelRoutes::Trust{};
    audit.trust[call.text()] = trust;
    if (!trust.output || !trust.input_gradient || !trust.weight_gradient) lines.emplace(describe(call, trust, nullptr, errors != nullptr), describe(call, trust, errors, errors != nullptr));
  }
  for (const auto& [line, with_errors] : lines) {
    audit.routed.push_back(line);
    audit.why.push_back(with_errors);
  }
  return audit;
}

int check_kernels_in_child() {
  try {
    const Json input = Json::parse(std::string(std::istreambuf_iterator<char>(std::cin), {}));
    set_compute_threads(input.at("threads"));
    CappedAllocator::install().set_cap(input.at("cap").get<std::uint64_t>());
    KernelRoutes::instance().trust_all(true);
    fmt::print("ready\n");
    std::fflush(stdout);
    for (const auto& text : input.at("calls")) {
      CappedAllocator::install().reset_peak();
      KernelErrors errors{unknown, unknown, unknown, unknown};
      bool short_of_memory = false;
      try {
        errors = check_kernel(KernelCall::from_text(text.get<std::string>()));
      } catch (const c10::OutOfMemoryError&) {
        short_of_memory = true;
      } catch (const std::bad_alloc&) {
        short_of_memory = true;
      } catch (const c10::Error&) {
        // An operation that refuses its own type is none to trust.
      }
      Json line = to_json(errors);
      line["peak"] = CappedAllocator::install().counters().footprint;
      fmt::print("{}\n", short_of_memory ? out_of_memory : line.dump());
      std::fflush(stdout);
      CappedAllocator::install().trim();
    }
    return 0;
  } catch (const std::exception& error) {
    log::error("{}", error.what());
    return 1;
  }
}

}  // namespace sluice
