// doctor: what this machine has, who else uses it, and whether a pipeline would run on it now. It changes nothing.
#include <cstdio>
#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <sluice/error.hpp>

#include "framework/app/doctor_machine.hpp"
#include "framework/app/doctor_pipeline.hpp"
#include "framework/app/train_library.hpp"
#include "framework/app/verbs.hpp"
#include "framework/base/strings.hpp"

namespace sluice::app {
namespace {

using Json = nlohmann::ordered_json;

struct Request {
  PipelineArguments arguments;
  bool json = false;
};

const char* name_of(Finding::Status status) { return status == Finding::Status::ok ? "ok" : status == Finding::Status::warning ? "warning" : "problem"; }

Json to_json(const Machine& machine, const LibTorchReport& libtorch) {
  Json json;
  const auto& processor = machine.processor;
  json["processor"] = {{"model", processor.model}, {"cores", processor.cores}, {"quota", nullptr}, {"usable", processor.usable()}, {"bf16", multiplies_bf16(processor)}, {"fp16", multiplies_fp16(processor)}};
  if (processor.quota) json["processor"]["quota"] = *processor.quota;
  json["memory"] = {{"total", machine.memory.total}, {"available", machine.memory.available}, {"free", machine.free}, {"swap_total", machine.memory.swap_total}, {"swap_free", machine.memory.swap_free}, {"cgroup", nullptr}};
  if (machine.cgroup)
    json["memory"]["cgroup"] = {{"version", machine.cgroup->version}, {"folder", machine.cgroup->folder.string()}, {"limit", machine.cgroup->limit}, {"used", machine.cgroup->used}, {"reclaimable", machine.cgroup->reclaimable}};
  json["processes"] = Json::array();
  for (const auto& process : machine.processes) json["processes"].push_back({{"pid", process.pid}, {"name", process.name}, {"resident", process.resident}});
  const auto disk = [](const DiskSpace& space) { return Json{{"folder", space.folder.string()}, {"free", space.free}, {"writable", space.writable}}; };
  json["disk"] = {{"runs", disk(machine.runs)}, {"cache", disk(machine.cache)}};
  json["environment"] = Json::object();
  for (const auto& [name, value] : machine.environment) json["environment"][name] = value;
  json["libtorch"] = {{"version", libtorch.version}, {"file", libtorch.file.string()}, {"cuda", libtorch.cuda}, {"gpus", libtorch.gpus}};
  json["nvidia"] = {{"driver", machine.nvidia.driver}, {"problem", machine.nvidia.problem}, {"cards", Json::array()}};
  for (const auto& card : machine.nvidia.cards) {
    Json users = Json::array();
    for (const auto& user : card.users) users.push_back({{"pid", user.pid}, {"bytes", user.bytes}});
    json["nvidia"]["cards"].push_back({{"name", card.name}, {"capability", fmt::format("{}.{}", card.major, card.minor)}, {"total", card.total}, {"free", card.free}, {"users", users}});
  }
  return json;
}

Json to_json(const Preflight& preflight) {
  return {{"device", preflight.device},     {"train", preflight.train}, {"val", preflight.val},           {"failed", preflight.failed.size()},
          {"steps", preflight.steps},       {"plan", preflight.plan},   {"host_ram", preflight.host_ram}, {"smallest_host_ram", preflight.smallest},
          {"unused", preflight.unused},     {"checkpoint", preflight.checkpoint}};
}

// Further lines of a text stand below its first.
std::string indented(const std::string& text, std::size_t by) {
  return join(split(trim(text), '\n'), "\n" + std::string(by, ' '));
}

void print(const Findings& findings) {
  constexpr std::size_t margin = 9 + 14 + 1;
  for (const auto& finding : findings.all()) {
    fmt::print("{:<9}{:<14} {}\n", name_of(finding.status), finding.topic, indented(finding.text, margin));
    if (!finding.next.empty()) fmt::print("{}next: {}\n", std::string(margin, ' '), indented(finding.next, margin + 6));
  }
}

int diagnose(const Request& request) {
  const bool with_file = !request.arguments.file.empty();
  const Machine machine = look_at_machine(with_file ? run_folder_of(request.arguments) : "runs");
  Findings of_machine, of_pipeline;
  judge_machine(machine, of_machine);
  // The pipeline first: its [env] is set before LibTorch is loaded.
  Preflight preflight;
  if (with_file) judge_pipeline(request.arguments, request.json, machine, preflight, of_pipeline);
  LibTorchReport libtorch;
  try {
    libtorch = ask_libtorch();
    judge_devices(machine, libtorch, of_machine);
  } catch (const Error& error) {
    of_machine.problem("libtorch", error.where().empty() ? error.message() : error.where() + ": " + error.message(), error.hint(), static_cast<int>(error.code()));
  }
  Findings all;
  for (const auto* some : {&of_machine, &of_pipeline})
    for (const auto& finding : some->all()) all.add(finding);
  const auto problems = all.count(Finding::Status::problem), warnings = all.count(Finding::Status::warning);
  if (request.json) {
    Json json{{"ok", problems == 0}, {"exit_code", all.exit_code()}, {"findings", Json::array()}};
    for (const auto& finding : all.all()) json["findings"].push_back({{"status", name_of(finding.status)}, {"topic", finding.topic}, {"text", finding.text}, {"next", finding.next}});
    json["machine"] = to_json(machine, libtorch);
    if (with_file) json["pipeline"] = to_json(preflight);
    fmt::print("{}\n", json.dump(-1, ' ', false, Json::error_handler_t::replace));
  } else {
    print(all);
    const std::string counts = fmt::format("{}, {}", counted(problems, "problem"), counted(warnings, "warning"));
    fmt::print("{}: {}\n", problems > 0 ? (with_file ? "it would not run" : "something is wrong") : (with_file ? "it would run" : "nothing stands in the way"), counts);
  }
  std::fflush(stdout);
  return all.exit_code();
}

}  // namespace

void add_doctor(CLI::App& app, Action& action) {
  const auto request = std::make_shared<Request>();
  auto* command = app.add_subcommand("doctor", "What this machine has, who else uses it, and whether a pipeline would run on it now");
  add_pipeline_arguments(*command, request->arguments);
  command->get_option("file")->required(false);
  command->add_flag("--json", request->json, "findings and all that they follow from as one JSON object");
  command->footer("Example: sluice doctor pipelines/motion8.toml budget.host_ram=1GiB");
  command->callback([request, &action] { action = [request] { return diagnose(*request); }; });
}

}  // namespace sluice::app
