// Asks before it takes: the allocators of a device kind exist without any device.
#include "framework/train/device.hpp"

#include <cstdlib>

#include <ATen/Context.h>
#include <c10/util/Exception.h>
#include <dlfcn.h>
#include <fmt/format.h>
#include <torch/version.h>

#include <sluice/error.hpp>

#include "framework/base/strings.hpp"

namespace sluice {

at::Device choose_device(const Placed<std::string>& wanted) {
  const std::size_t gpus = at::hasCUDA() ? at::getNumGPUs() : 0;
  if (wanted.value == "auto") return gpus > 0 ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU);
  at::Device device(at::kCPU);
  try {
    device = at::Device(wanted.value);
  } catch (const c10::Error&) {
    throw Error(Code::configuration, "there is no device " + in_quotes(wanted.value), "write auto, cpu or cuda:0", wanted.place.text());
  }
  if (device.is_cpu()) return at::Device(at::kCPU);
  if (!device.is_cuda()) throw Error(Code::configuration, "sluice does not train on " + in_quotes(wanted.value), "write auto, cpu or cuda:0", wanted.place.text());
  if (!device.has_index()) device.set_index(0);
  if (static_cast<std::size_t>(device.index()) >= gpus)
    throw Error(Code::configuration, gpus == 0 ? "there is no GPU for " + in_quotes(wanted.value) : "there is no " + in_quotes(wanted.value) + ", only " + counted(gpus, "GPU"),
                gpus == 0 ? "device = \"auto\" takes the CPU where there is no GPU; with a GPU and its driver, build with the CUDA wheel: ./sluicew --cuda"
                          : "GPUs count from cuda:0",
                wanted.place.text());
  return device;
}

std::string kind_of(at::Device device) { return c10::DeviceTypeName(device.type(), true); }

at::Device choose_device_again(const Placed<std::string>& wanted, const std::string& saved) {
  std::string now;
  try {
    const at::Device device = choose_device(wanted);
    if (kind_of(device) == saved) return device;
    now = fmt::format("run.device = \"{}\" means {} here", wanted.value, device.str());
  } catch (const Error& error) {
    now = error.message();
  }
  throw Error(Code::configuration, fmt::format("the run that is to go on was trained on {}, and {}; another kind of device rounds otherwise, so its result would be another", saved, now),
              fmt::format("{}, then --resume; or begin another run with its weights: another run.dir, and model.weights = the model.safetensors of the checkpoint",
                          saved == "cpu" ? "write run.device = \"cpu\"" : "bring the card back (sluice doctor names those that the driver sees)"),
              wanted.place.text());
}

void demand_deterministic() {
  // cuBLAS reads it when it starts; without it its matrix products may differ from call to call.
  setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", 0);
  auto& context = at::globalContext();
  context.setDeterministicAlgorithms(true, false);
  context.setDeterministicCuDNN(true);
  context.setBenchmarkCuDNN(false);
  context.setDeterministicMkldnn(true);
}

LibTorchReport libtorch_report() {
  LibTorchReport report;
  report.version = TORCH_VERSION;
  Dl_info info{};
  if (::dladdr(reinterpret_cast<const void*>(&at::globalContext), &info) != 0 && info.dli_fname != nullptr) report.file = info.dli_fname;
  report.cuda = at::hasCUDA();
  report.gpus = report.cuda ? at::getNumGPUs() : 0;
  return report;
}

}  // namespace sluice
