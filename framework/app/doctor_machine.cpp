// Reads the machine and says what of it stands in the way of a run.
#include "framework/app/doctor_machine.hpp"

#include <array>
#include <cstdlib>
#include <string_view>

#include <fmt/format.h>

#include "framework/app/printing.hpp"
#include "framework/base/bytes.hpp"
#include "framework/base/cache_folder.hpp"
#include "framework/base/strings.hpp"

namespace sluice::app {
namespace {

constexpr std::size_t processes_shown = 5;
// Below it no pipeline of pipelines/ fits; motion8 takes about 360 MiB.
constexpr std::uint64_t little_memory = 512 * MiB;
constexpr std::uint64_t little_disk = GiB;
constexpr std::uint64_t much_of_a_card = 256 * MiB;

// What a variable does to a run. `warns`: this value of it stands in the way; null: none does.
struct Variable {
  const char* name;
  bool (*warns)(std::string_view value);
  const char* effect;
  const char* next = "";
};
bool is_on(std::string_view value) { return !value.empty() && value != "0"; }
bool is_active(std::string_view value) { return lower(value) == "active"; }
bool hides_all(std::string_view value) { return value.empty() || value.starts_with('-'); }
bool replaces_malloc(std::string_view value) { return value.find("malloc") != std::string_view::npos; }
constexpr std::array variables = std::to_array<Variable>({
    {"OMP_NUM_THREADS", nullptr, "budget.compute_threads decides instead"},
    {"MKL_NUM_THREADS", nullptr, "budget.compute_threads decides instead"},
    {"OMP_WAIT_POLICY", is_active, "threads that wait for each other", "unset it: threads that spin take the processor from those that decode"},
    {"OMP_PROC_BIND", nullptr, "pins the network's threads to processors"},
    {"ATEN_CPU_CAPABILITY", nullptr, "which instructions LibTorch uses: with others the last bits of what is learnt differ"},
    {"ONEDNN_MAX_CPU_ISA", nullptr, "which instructions oneDNN uses: with others the last bits of what is learnt differ"},
    {"DNNL_MAX_CPU_ISA", nullptr, "which instructions oneDNN uses: with others the last bits of what is learnt differ"},
    {"MALLOC_ARENA_MAX", nullptr, "sluice sets two arenas itself"},
    {"LD_PRELOAD", replaces_malloc, "loaded before all libraries", "unset it: sluice pins down the C library's malloc so that a budget holds, and cannot do so with another"},
    {"CUDA_VISIBLE_DEVICES", hides_all, "the cards that LibTorch sees", "unset it, or name a card: as it stands it hides all"},
    {"CUDA_LAUNCH_BLOCKING", is_on, "waits for every kernel", "unset it unless you look for a fault: training is much slower with it"},
    {"PYTORCH_NO_CUDA_MEMORY_CACHING", is_on, "every tensor asks the driver", "unset it: training is much slower with it, and budget.device_memory cannot be kept"},
    {"PYTORCH_CUDA_ALLOC_CONF", nullptr, "settings of LibTorch's allocator on the card"},
    {"PYTORCH_ALLOC_CONF", nullptr, "settings of LibTorch's allocators"},
});

std::string list_of(const std::vector<ProcessMemory>& processes) {
  std::vector<std::string> parts;
  for (const auto& process : processes) parts.push_back(fmt::format("{} {} {}", process.pid, shown_name(process.name), format_bytes(process.resident)));
  return join(parts, ", ");
}

std::string instructions_of(const Processor& processor) {
  std::vector<std::string> found;
  for (const auto& [flag, name] : {std::pair{"avx2", "avx2"}, {"avx512f", "avx512"}, {"avx512_bf16", "avx512_bf16"}, {"avx512_fp16", "avx512_fp16"}, {"amx_bf16", "amx_bf16"}, {"amx_fp16", "amx_fp16"}})
    if (processor.has(flag)) found.emplace_back(name);
  return found.empty() ? "none of avx2, avx512, amx" : join(found, ", ");
}

void judge_processor(const Processor& processor, Findings& findings) {
  std::string text = fmt::format("{}: {} for this process", processor.model.empty() ? "unknown model" : processor.model, counted(static_cast<std::uint64_t>(processor.cores), "core"));
  if (processor.quota) text += fmt::format(", of which its cgroup gives the time of {:.3g}", *processor.quota);
  text += "; instructions: " + instructions_of(processor);
  if (processor.flags.size() > 1 && !processor.has("avx2")) findings.warning("processor", text, "LibTorch's fast kernels need avx2: expect a fraction of the speed; another machine would help");
  else findings.ok("processor", text);
}

void judge_memory(const Machine& machine, Findings& findings) {
  const auto& memory = machine.memory;
  std::string text = fmt::format("{}, {} available", format_bytes(memory.total), format_bytes(memory.available));
  if (machine.cgroup)
    text += fmt::format("; the cgroup {} (v{}) gives {} and holds {}, {} of it cache that can go", machine.cgroup->folder.string(), machine.cgroup->version, format_bytes(machine.cgroup->limit),
                        format_bytes(machine.cgroup->used), format_bytes(machine.cgroup->reclaimable));
  else text += "; no cgroup limits it";
  text += fmt::format("; a run could take {} now", format_bytes(machine.free));
  if (machine.free < little_memory) findings.warning("memory", text, machine.cgroup ? "raise the cgroup's limit, or end what else runs in it" : "end what holds the memory (others, below)");
  else findings.ok("memory", text);

  if (memory.swap_total == 0) {
    findings.ok("swap", "none");
  } else {
    const std::uint64_t used = memory.swap_total - std::min(memory.swap_total, memory.swap_free);
    const std::string swap = fmt::format("{}, {} of it used", format_bytes(memory.swap_total), format_bytes(used));
    if (used > memory.swap_total / 2) findings.warning("swap", swap, "the machine is short of memory: training that is swapped out is slower by orders of magnitude; end what holds the memory (others, below)");
    else findings.ok("swap", swap);
  }
  findings.ok("others", machine.processes.empty() ? "no other process can be seen" : "the largest of other processes: " + list_of(machine.processes));
}

void judge_disk(const char* topic, const DiskSpace& disk, const char* next, Findings& findings) {
  const std::string text = fmt::format("{} free in {}", format_bytes(disk.free), disk.folder.string());
  if (!disk.writable) findings.warning(topic, text + ", which cannot be written", next);
  else if (disk.free < little_disk) findings.warning(topic, text, next);
  else findings.ok(topic, text);
}

void judge_environment(const Machine& machine, Findings& findings) {
  for (const auto& variable : variables)
    for (const auto& [name, value] : machine.environment) {
      if (name != variable.name) continue;
      const std::string text = fmt::format("{} = {}: {}", name, in_quotes(value), variable.effect);
      if (variable.warns && variable.warns(value)) findings.warning("environment", text, variable.next);
      else findings.ok("environment", text);
    }
}

std::string precisions_of(const Processor& processor) {
  const char* bf16 = processor.has("amx_bf16") ? "bf16 by AMX" : processor.has("avx512_bf16") ? "bf16 by AVX-512" : "bf16 without instructions of its own, so slower than fp32";
  return fmt::format("fp32; {}; {}", bf16, multiplies_fp16(processor) ? "fp16 by instructions of its own" : "fp16 without instructions of its own");
}

std::string precisions_of(const NvidiaCard& card) {
  if (card.major == 0) return "precisions unknown";
  if (card.major >= 8) return "fp32, TF32, bf16, fp16";
  return card.major == 7 ? "fp32, fp16; no bf16, which starts with Ampere" : "fp32; no fp16 or bf16 units";
}

void judge_card(std::size_t index, const NvidiaCard& card, Findings& findings) {
  std::uint64_t others = 0;
  std::vector<std::string> users;
  for (const auto& user : card.users) {
    others += user.bytes;
    users.push_back(user.bytes == 0 ? fmt::format("{}", user.pid) : fmt::format("{} {}", user.pid, format_bytes(user.bytes)));
  }
  std::string text = fmt::format("card {}: {}, {}, {} free; {}", index, card.name, format_bytes(card.total), format_bytes(card.free), precisions_of(card));
  if (!users.empty()) text += "; other processes on it: " + join(users, ", ");
  // Where processes are hidden (a container) the memory still tells; a little of it is the driver's own.
  const std::uint64_t taken = std::max(others, card.total - std::min(card.total, card.free));
  if (taken > (users.empty() ? card.total / 10 : much_of_a_card)) findings.warning("device", text, "what they hold is not there for a run: end those that are yours, take another card (run.device = \"cuda:1\"), or set budget.device_memory below what is free");
  else findings.ok("device", text);
}

}  // namespace

Machine look_at_machine(const std::filesystem::path& runs) {
  Machine machine;
  machine.processor = read_processor();
  machine.memory = read_memory();
  machine.cgroup = memory_cgroup();
  machine.free = free_memory();
  machine.processes = largest_processes(processes_shown);
  machine.runs = disk_space(runs);
  machine.cache = disk_space(cache_folder());
  for (const auto& variable : variables)
    if (const char* value = std::getenv(variable.name)) machine.environment.emplace_back(variable.name, value);
  machine.nvidia = read_nvidia();
  return machine;
}

void judge_machine(const Machine& machine, Findings& findings) {
  judge_processor(machine.processor, findings);
  judge_memory(machine, findings);
  judge_disk("runs", machine.runs, "checkpoints go there: free some space, or choose another folder with run.dir", findings);
  judge_disk("cache", machine.cache, "without it every start reads all headers and measures the network again: free some space, or set XDG_CACHE_HOME to another folder", findings);
  judge_environment(machine, findings);
}

void judge_devices(const Machine& machine, const LibTorchReport& libtorch, Findings& findings) {
  findings.ok("libtorch", fmt::format("{}, {} build, {}", libtorch.version, libtorch.cuda ? "CUDA" : "CPU", libtorch.file.string()));
  findings.ok("device", "cpu: " + precisions_of(machine.processor));
  const auto& nvidia = machine.nvidia;
  if (libtorch.gpus > 0) {
    for (std::size_t i = 0; i < nvidia.cards.size(); ++i) judge_card(i, nvidia.cards[i], findings);
    if (nvidia.cards.empty()) findings.ok("device", fmt::format("{} by LibTorch; {}", counted(libtorch.gpus, "CUDA device"), nvidia.problem));
  } else if (!libtorch.cuda) {
    const std::string text = "no CUDA device: LibTorch is the CPU build";
    if (nvidia.cards.empty()) findings.ok("device", text + "; " + nvidia.problem);
    else findings.warning("device", fmt::format("{}, and the driver {} shows {}, e.g. {}", text, nvidia.driver, counted(nvidia.cards.size(), "card"), nvidia.cards.front().name), "build with the CUDA wheel: ./sluicew --cuda");
  } else {
    findings.warning("device", "no CUDA device: LibTorch is the CUDA build, but " + (nvidia.cards.empty() ? nvidia.problem : std::string("no card can be used: hidden by CUDA_VISIBLE_DEVICES, or the driver is too old for it")),
                     "install NVIDIA's driver, or unset CUDA_VISIBLE_DEVICES; run.device = \"auto\" takes the CPU meanwhile");
  }
}

bool multiplies_bf16(const Processor& processor) { return processor.has("amx_bf16") || processor.has("avx512_bf16"); }
bool multiplies_fp16(const Processor& processor) { return processor.has("amx_fp16") || processor.has("avx512_fp16"); }

}  // namespace sluice::app
