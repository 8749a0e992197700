// r3d_18 at 8 frames in bf16, which meets the wrong kernel of processors with AVX512-BF16 in layers 3 and 4: every gradient against fp32.
#include <cmath>
#include <filesystem>
#include <map>
#include <string>

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/randn.h>

#include "framework/base/bytes.hpp"
#include "framework/train/kernel_audit.hpp"
#include "framework/train/pass.hpp"
#include "framework/train/precision.hpp"
#include "framework/train/threads.hpp"
#include "tests/models/training_half.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

struct R3d {
  std::unique_ptr<Model> model;
  at::Tensor clips;
  R3d() {
    settle_threads_first();
    set_compute_threads(2);
    at::manual_seed(5);
    model = recognizer(part("backbone.r3d_18", {}, "backbone.r3d"), 8);
    model->set_training(true);
    model->batch_norms(true);
    clips = at::randn({2, 3, 8, 64, 64}).contiguous(at::MemoryFormat::ChannelsLast3d);
  }
  std::map<std::string, at::Tensor> gradients(Precision precision) {
    MicrobatchPass pass(true, {1, 2});
    const auto outputs = forward_in({precision, at::kCPU}, *model, named("clip", clips), pass);
    outputs.get("logits").square().sum().backward();
    std::map<std::string, at::Tensor> out;
    for (auto& weight : model->weights()) {
      out[weight.name] = weight.tensor.grad().clone();
      weight.tensor.mutable_grad().reset();
    }
    return out;
  }
  std::vector<KernelCall> calls() {
    const at::NoGradGuard no_grad;
    MicrobatchPass pass(true, {1, 2});
    return calls_of([&] { static_cast<void>(forward_in({Precision::bf16, at::kCPU}, *model, named("clip", clips), pass)); });
  }
};

double relative(const at::Tensor& a, const at::Tensor& b) { return (at::linalg_vector_norm(a - b, 2) / at::linalg_vector_norm(b, 2)).item<double>(); }

}  // namespace

// Mistake caught: a kernel that the audit does not see (a call that is not recorded, a key that does not match in the backward pass), a
// detour that is wrong itself. The error that is allowed is that of bf16 with every convolution computed in fp32 and rounded.
TEST_CASE("every gradient of r3d_18 in bf16 is within the rounding of bf16") {
  R3d net;
  const auto exact = net.gradients(Precision::fp32);
  KernelRoutes::instance().trust({});
  const auto rounded = net.gradients(Precision::bf16);

  AuditOptions options;
  options.program = std::filesystem::path(SLUICE_BINARY_DIR) / "bin" / "sluice";
  options.child_memory = GiB;
  options.threads = 2;
  const auto calls = net.calls();
  const auto audit = audit_kernels(calls, options);
  CHECK(audit.checked == static_cast<std::int64_t>(calls.size()));
  CHECK(calls.size() >= 20);
  for (const auto& line : audit.why) MESSAGE(line);
  KernelRoutes::instance().trust(audit.trust);
  const auto ours = net.gradients(Precision::bf16);
  KernelRoutes::instance().trust_all(true);
  const auto untested = net.gradients(Precision::bf16);

  double worst = 0, worst_untested = 0;
  for (const auto& [name, gradient] : exact) {
    const double allowed = relative(rounded.at(name), gradient), error = relative(ours.at(name), gradient), without = relative(untested.at(name), gradient);
    CAPTURE(name);
    CAPTURE(error);
    CAPTURE(allowed);
    CHECK(error < 1.5 * allowed + 0.01);
    worst = std::max(worst, error / (1.5 * allowed + 0.01));
    worst_untested = std::isfinite(without) ? std::max(worst_untested, without / (1.5 * allowed + 0.01)) : INFINITY;
  }
  MESSAGE("the largest share of the error that is allowed: ", worst, "; with every kernel as the library has it: ", worst_untested);
  // The test can fail: where kernels were routed around, the library's own do.
  if (!audit.routed.empty()) CHECK(worst_untested > 1);
}
