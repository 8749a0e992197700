// The few functions of NVML (https://docs.nvidia.com/deploy/nvml-api) that are needed, by name: its C interface is stable.
#include "framework/memory/nvidia.hpp"

#include <array>
#include <memory>

#include <dlfcn.h>
#include <unistd.h>

namespace sluice {
namespace {

// As nvml.h has them.
using Result = int;
constexpr Result success = 0;
constexpr Result too_small = 7;  // NVML_ERROR_INSUFFICIENT_SIZE
struct DeviceHandle;
struct Memory {
  unsigned long long total, free, used;
};
struct ProcessInfo {  // of the functions that end in _v3
  unsigned pid;
  unsigned long long bytes;
  unsigned gpu_instance, compute_instance;
};
constexpr unsigned long long unknown_bytes = ~0ull;

struct CloseLibrary {
  void operator()(void* library) const { ::dlclose(library); }
};
using Library = std::unique_ptr<void, CloseLibrary>;

template <class Function> Function* find(void* library, const char* name) { return reinterpret_cast<Function*>(::dlsym(library, name)); }

std::vector<NvidiaCard::User> users_of(void* library, DeviceHandle* device) {
  const auto running = find<Result(DeviceHandle*, unsigned*, ProcessInfo*)>(library, "nvmlDeviceGetComputeRunningProcesses_v3");
  if (!running) return {};
  std::vector<ProcessInfo> found(64);
  auto count = static_cast<unsigned>(found.size());
  Result result = running(device, &count, found.data());
  if (result == too_small) {
    found.resize(count + 16);
    count = static_cast<unsigned>(found.size());
    result = running(device, &count, found.data());
  }
  std::vector<NvidiaCard::User> users;
  for (unsigned i = 0; result == success && i < count && i < found.size(); ++i)
    if (static_cast<pid_t>(found[i].pid) != getpid()) users.push_back({found[i].pid, found[i].bytes == unknown_bytes ? 0 : found[i].bytes});
  return users;
}

}  // namespace

NvidiaReport read_nvidia() {
  NvidiaReport report;
  const Library library(::dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL));
  if (!library) {
    report.problem = "no NVIDIA driver is installed (libnvidia-ml.so.1 is not there)";
    return report;
  }
  const auto init = find<Result()>(library.get(), "nvmlInit_v2");
  const auto shutdown = find<Result()>(library.get(), "nvmlShutdown");
  const auto error_text = find<const char*(Result)>(library.get(), "nvmlErrorString");
  const auto version = find<Result(char*, unsigned)>(library.get(), "nvmlSystemGetDriverVersion");
  const auto count_of = find<Result(unsigned*)>(library.get(), "nvmlDeviceGetCount_v2");
  const auto handle_of = find<Result(unsigned, DeviceHandle**)>(library.get(), "nvmlDeviceGetHandleByIndex_v2");
  const auto name_of = find<Result(DeviceHandle*, char*, unsigned)>(library.get(), "nvmlDeviceGetName");
  const auto memory_of = find<Result(DeviceHandle*, Memory*)>(library.get(), "nvmlDeviceGetMemoryInfo");
  const auto capability_of = find<Result(DeviceHandle*, int*, int*)>(library.get(), "nvmlDeviceGetCudaComputeCapability");
  if (!init || !shutdown || !count_of || !handle_of || !name_of || !memory_of) {
    report.problem = "the NVIDIA driver is too old to be asked";
    return report;
  }
  if (const Result result = init(); result != success) {
    report.problem = std::string("the NVIDIA driver does not answer") + (error_text ? std::string(": ") + error_text(result) : "");
    return report;
  }
  std::array<char, 96> text{};
  report.driver = version && version(text.data(), static_cast<unsigned>(text.size() - 1)) == success ? text.data() : "unknown";
  unsigned count = 0;
  if (count_of(&count) != success) count = 0;
  for (unsigned i = 0; i < count; ++i) {
    DeviceHandle* device = nullptr;
    if (handle_of(i, &device) != success) continue;
    NvidiaCard card;
    text.fill(0);
    if (name_of(device, text.data(), static_cast<unsigned>(text.size() - 1)) == success) card.name = text.data();
    Memory memory{};
    if (memory_of(device, &memory) == success) card.total = memory.total, card.free = memory.free;
    if (capability_of && capability_of(device, &card.major, &card.minor) != success) card.major = card.minor = 0;
    card.users = users_of(library.get(), device);
    report.cards.push_back(std::move(card));
  }
  if (report.cards.empty()) report.problem = "the driver sees no card";
  shutdown();
  return report;
}

}  // namespace sluice
