// Kernels in reduced precision: found, compared with fp32, routed around where they are wrong; and weight gradients by products.
#include "framework/train/kernel_audit.hpp"

#include <array>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/batch_norm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/convolution_backward_compositeexplicitautograd_dispatch.h>
#include <ATen/ops/convolution_compositeexplicitautograd_dispatch.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <doctest/doctest.h>
#include <unistd.h>

#include "framework/base/bytes.hpp"
#include "framework/train/capped_allocator.hpp"
#include "framework/train/kernel_check.hpp"
#include "framework/train/kernel_routes.hpp"
#include "framework/train/convolution_products.hpp"
#include "tests/support/scratch_folder.hpp"

using namespace sluice;

namespace {

double relative(const at::Tensor& a, const at::Tensor& b) {
  return (at::linalg_vector_norm(a.to(at::kDouble) - b.to(at::kDouble), 2) / at::linalg_vector_norm(b.to(at::kDouble), 2)).item<double>();
}

using Numbers = std::vector<std::int64_t>;

struct Layer {
  Numbers input, weight;  // sizes
  Numbers stride, padding, dilation;
  std::int64_t groups = 1;
  bool transposed = false;
};

struct Drawn {
  at::Tensor input, weight, gradient;
};

at::MemoryFormat last(const at::Tensor& x) { return x.dim() == 5 ? at::MemoryFormat::ChannelsLast3d : x.dim() == 4 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous; }

Drawn draw(const Layer& layer, at::ScalarType type, bool channels_last) {
  at::manual_seed(11);
  Drawn drawn{at::randn(layer.input, type), at::randn(layer.weight, type), {}};
  if (channels_last) {
    drawn.input = drawn.input.contiguous(last(drawn.input));
    drawn.weight = drawn.weight.contiguous(last(drawn.weight));
  }
  const Numbers none(layer.stride.size(), 0);
  const at::NoGradGuard no_grad;
  drawn.gradient = at::randn_like(at::convolution(drawn.input, drawn.weight, {}, layer.stride, layer.padding, layer.dilation, layer.transposed, none, layer.groups));
  return drawn;
}

at::Tensor library_weight_gradient(const Layer& layer, const Drawn& drawn) {
  const Numbers none(layer.stride.size(), 0);
  return std::get<1>(at::compositeexplicitautograd::convolution_backward(drawn.gradient, drawn.input, drawn.weight, c10::nullopt, layer.stride, layer.padding, layer.dilation, layer.transposed, none,
                                                                        layer.groups, {false, true, false}));
}

std::array<at::Tensor, 3> through_the_dispatcher(const Layer& layer, const Drawn& drawn) {
  const Numbers none(layer.stride.size(), 0);
  const auto [input, weight, bias] = at::convolution_backward(drawn.gradient, drawn.input, drawn.weight, c10::nullopt, layer.stride, layer.padding, layer.dilation, layer.transposed, none, layer.groups,
                                                             {true, true, false});
  return {input, weight, at::convolution(drawn.input, drawn.weight, {}, layer.stride, layer.padding, layer.dilation, layer.transposed, none, layer.groups)};
}

KernelCall call_of(const Layer& layer, at::ScalarType type, bool channels_last = false) {
  const Drawn drawn = draw(layer, type, channels_last);
  const Numbers none(layer.stride.size(), 0);
  const std::vector<c10::IValue> arguments{drawn.input, drawn.weight, c10::IValue(), layer.stride, layer.padding, layer.dilation, layer.transposed, none, layer.groups};
  return KernelCall::of("aten::convolution", arguments);
}

// The kernel of FACTS: 3x3x3 over two frames, whose weight gradient in bf16 is garbage on processors with AVX512-BF16.
const Layer two_frames{{2, 32, 2, 6, 6}, {32, 32, 3, 3, 3}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}};

struct TrustAll {
  TrustAll() { KernelRoutes::instance().trust_all(true); }
  ~TrustAll() { KernelRoutes::instance().trust_all(false); }
};

// The library's kernel, as a plugin's author may have broken it.
at::Tensor library(const KernelCall& call, const std::vector<at::Tensor>& tensors) {
  const auto& list = [&](std::size_t i) -> const Numbers& { return std::get<Numbers>(call.arguments.at(i)); };
  return at::convolution(tensors.at(0), tensors.at(1), {}, list(3), list(4), list(5), false, list(7), std::get<std::int64_t>(call.arguments.at(8)));
}

// Its value is nothing, its gradient is not.
at::Tensor only_in_the_gradient(const at::Tensor& x, double factor) { return (x.sum() - x.sum().detach()) * factor; }

}  // namespace

// Mistake caught: taps in another order, a stride or dilation on the wrong axis, padding of the first axis on the last.
TEST_CASE("a convolution by products and its gradients are the library's") {
  const std::vector<Layer> layers{
      {{3, 5, 4, 7, 6}, {4, 5, 3, 3, 3}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}},  {{2, 4, 5, 8, 9}, {6, 4, 3, 5, 1}, {2, 1, 3}, {1, 2, 0}, {1, 1, 1}},
      {{2, 3, 7, 9, 8}, {2, 3, 2, 3, 2}, {1, 2, 1}, {0, 3, 2}, {3, 2, 1}},  {{4, 6, 9, 7}, {3, 6, 3, 2}, {2, 1}, {1, 0}, {1, 2}},
      {{2, 4, 11}, {5, 4, 5}, {2}, {2}, {1}},                              {{3, 512, 2, 4, 4}, {256, 512, 3, 3, 3}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}},
  };
  for (const auto& layer : layers) {
    for (const bool channels_last : {false, true}) {
      const Drawn drawn = draw(layer, at::kDouble, channels_last);
      const ConvolutionShape shape{layer.stride, layer.padding, layer.dilation, false, 1};
      const Numbers none(layer.stride.size(), 0);
      const auto theirs = at::compositeexplicitautograd::convolution_backward(drawn.gradient, drawn.input, drawn.weight, c10::nullopt, layer.stride, layer.padding, layer.dilation, false, none, 1,
                                                                             {true, true, false});
      const at::Tensor bias = at::randn({layer.weight[0]}, at::kDouble);
      const at::Tensor output = at::compositeexplicitautograd::convolution(drawn.input, drawn.weight, bias, layer.stride, layer.padding, layer.dilation, false, none, 1);
      CAPTURE(layer.weight);
      CHECK(output_sizes(drawn.input, drawn.weight, shape) == output.sizes());
      const at::Tensor ours = convolution_by_products(drawn.input, drawn.weight, bias, shape);
      CHECK(ours.sizes() == output.sizes());
      CHECK(relative(ours, output) < 1e-13);
      const at::Tensor of_input = input_gradient_by_products(drawn.gradient, drawn.input, drawn.weight, shape);
      CHECK(of_input.sizes() == drawn.input.sizes());
      CHECK(relative(of_input, std::get<0>(theirs)) < 1e-13);
      const at::Tensor of_weight = weight_gradient_by_products(drawn.gradient, drawn.input, drawn.weight, shape);
      CHECK(of_weight.sizes() == drawn.weight.sizes());
      CHECK(of_weight.strides() == drawn.weight.strides());
      CHECK(relative(of_weight, std::get<1>(theirs)) < 1e-13);
    }
  }
}

// Mistake caught: a stride of 0 that divides by it and ends the process; a clip that is too small for its kernel, told as a negative size.
TEST_CASE("what no convolution can be is refused in the library's own words") {
  const at::Tensor weight = at::randn({512, 512, 3, 3, 3}).contiguous(at::MemoryFormat::ChannelsLast3d);
  const auto message = [&](const Numbers& input, const Numbers& stride, const Numbers& padding) -> std::string {
    try {
      static_cast<void>(at::convolution(at::randn(input), weight, {}, stride, padding, Numbers{1, 1, 1}, false, Numbers{0, 0, 0}, 1));
    } catch (const c10::Error& error) {
      return error.what_without_backtrace();
    }
    return "nothing was wrong";
  };
  CHECK(message({2, 512, 2, 4, 4}, {0, 1, 1}, {1, 1, 1}).find("stride") != std::string::npos);
  CHECK(message({2, 512, 2, 4, 4}, {1, 1, 1}, {0, 0, 0}).find("ernel size") != std::string::npos);
  CHECK(message({2, 256, 2, 4, 4}, {1, 1, 1}, {1, 1, 1}).find("512 channels") != std::string::npos);
  CHECK(message({2, 512, 2, 4, 4}, {1, 1, 1}, {1, 1, 1}) == "nothing was wrong");
}

// Mistake caught: sums of taps that are rounded one by one.
TEST_CASE("products in 16 bits are rounded once") {
  const Layer layer{{2, 512, 2, 4, 4}, {256, 512, 3, 3, 3}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}};
  const ConvolutionShape shape{layer.stride, layer.padding, layer.dilation, false, 1};
  const Drawn reduced = draw(layer, at::kBFloat16, true), exact{reduced.input.to(at::kFloat), reduced.weight.to(at::kFloat), reduced.gradient.to(at::kFloat)};
  CHECK(relative(convolution_by_products(reduced.input, reduced.weight, {}, shape), convolution_by_products(exact.input, exact.weight, {}, shape)) < 0.0025);
  CHECK(relative(input_gradient_by_products(reduced.gradient, reduced.input, reduced.weight, shape), input_gradient_by_products(exact.gradient, exact.input, exact.weight, shape)) < 0.0025);
  CHECK(relative(weight_gradient_by_products(reduced.gradient, reduced.input, reduced.weight, shape), weight_gradient_by_products(exact.gradient, exact.input, exact.weight, shape)) < 0.0025);
}

// Mistake caught: the 217 MiB that oneDNN takes beside 27 MiB of weights, from two clips on. The library's own call shows them.
TEST_CASE("a wide layer over few positions takes no scratch beside its gradient") {
  const Layer layer{{4, 512, 2, 4, 4}, {512, 512, 3, 3, 3}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}};
  const Drawn drawn = draw(layer, at::kFloat, true);
  auto& allocator = CappedAllocator::install();
  const auto peak_of = [&](const auto& run) {
    const auto before = allocator.counters().live;
    allocator.reset_peak();
    const at::Tensor result = run();
    return std::pair(allocator.counters().peak - before, result);
  };
  const auto [theirs, expected] = peak_of([&] { return library_weight_gradient(layer, drawn); });
  const auto [ours, gradient] = peak_of([&] { return through_the_dispatcher(layer, drawn)[1]; });
  const auto weights = static_cast<std::uint64_t>(drawn.weight.nbytes());
  MESSAGE("the library takes ", theirs / MiB, " MiB for ", weights / MiB, " MiB of weights, products ", ours / MiB);
  CHECK(relative(gradient, expected) < 1e-5);
  CHECK(ours < weights * 3 / 2);
  CHECK(theirs > ours);
}

// Mistake caught: a key that forgets a number (then one kernel's verdict speaks for another), a text that does not come back.
TEST_CASE("a call is known by all that decides which kernel runs") {
  const Layer base{{2, 4, 5, 6, 6}, {4, 4, 3, 3, 3}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}};
  std::set<std::string> texts;
  const auto add = [&](const Layer& layer, at::ScalarType type = at::kBFloat16, bool channels_last = false) {
    const KernelCall call = call_of(layer, type, channels_last);
    CHECK(KernelCall::from_text(call.text()) == call);
    texts.insert(call.text());
  };
  Layer other = base;
  add(base);
  add(base, at::kHalf);
  add(base, at::kBFloat16, true);
  other = base, other.stride = {2, 1, 1}, add(other);
  other = base, other.padding = {0, 1, 1}, add(other);
  other = base, other.dilation = {1, 2, 1}, add(other);
  other = base, other.groups = 2, other.weight = {4, 2, 3, 3, 3}, add(other);
  other = base, other.input = {2, 4, 4, 6, 6}, add(other);
  other = base, other.weight = {6, 4, 3, 3, 3}, add(other);
  other = base, other.transposed = true, add(other);
  other = base, other.input = {1, 4, 5, 6, 6}, add(other);
  CHECK(texts.size() == 11);
  other = base, other.input = {7, 4, 5, 6, 6}, add(other);  // as two clips
  CHECK(texts.size() == 11);
  CHECK_THROWS(static_cast<void>(KernelCall::from_text("[\"aten::mm\"]")));
  CHECK_THROWS(static_cast<void>(KernelCall::from_text("nonsense")));
}

// Mistake caught: a check that compares a kernel with itself, one that sees the output alone, a limit that lets garbage pass.
TEST_CASE("planted wrong kernels are found, right ones pass") {
  const TrustAll trust_all;
  const Layer layer{{2, 16, 5, 6, 6}, {16, 16, 3, 3, 3}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}};
  for (const auto type : {at::kBFloat16, at::kHalf}) {
    const KernelCall call = call_of(layer, type);
    const auto verdict = [&](const RunKernel& run) { return judge(check_kernel(call, run), type); };
    CHECK(verdict({}) == KernelRoutes::everything);
    CHECK(verdict(library) == KernelRoutes::everything);
    // Only of the reduced kernel: the oracle is the library.
    CHECK(verdict([](const KernelCall& c, const auto& t) { return library(c, t) * 1.05; }) == KernelRoutes::Trust{false, false, false, true});
    CHECK(verdict([](const KernelCall& c, const auto& t) { return library(c, t) + only_in_the_gradient(t[0], 50); }) == KernelRoutes::Trust{true, false, true, true});
    CHECK(verdict([](const KernelCall& c, const auto& t) { return library(c, t) + only_in_the_gradient(t[1], 50); }) == KernelRoutes::Trust{true, true, false, true});
    CHECK(verdict([](const KernelCall& c, const auto& t) { return library(c, t) + only_in_the_gradient(t[1], NAN); }).weight_gradient == false);
  }
}

// Mistake caught: a norm or an attention that nobody looks at; statistics that are drawn negative and make every norm "wrong".
TEST_CASE("norms and attentions are checked too") {
  const TrustAll trust_all;
  const at::Tensor x = at::randn({2, 8, 3, 4, 4}).to(at::kBFloat16), ones = at::ones({8}), zeros = at::zeros({8}), q = at::randn({2, 2, 9, 16}).to(at::kBFloat16);
  const auto calls = calls_of([&] {
    const at::NoGradGuard no_grad;
    at::batch_norm(x, ones, zeros, zeros, ones, true, 0.1, 1e-5, false);
    at::batch_norm(x, {}, {}, zeros, ones, false, 0.1, 1e-5, false);
    at::layer_norm(x, {4}, at::ones({4}), at::zeros({4}), 1e-5, false);
    at::scaled_dot_product_attention(q, q, q, {}, 0.3);
    at::batch_norm(x.to(at::kFloat), ones, zeros, zeros, ones, true, 0.1, 1e-5, false);  // not reduced
  });
  CHECK(calls.size() == 8);  // each with one clip too
  for (const auto& call : calls) {
    const auto errors = check_kernel(call);
    CAPTURE(call.text());
    CAPTURE(errors.output);
    CAPTURE(errors.input_gradient);
    CAPTURE(errors.weight_gradient);
    CHECK(judge(errors, at::kBFloat16).output);
    CHECK(judge(errors, at::kBFloat16).input_gradient);
    CHECK(judge(errors, at::kBFloat16).weight_gradient);
  }
}

// Mistake caught: a table that nobody asks, so that the wrong kernel stays in use; a kernel that nobody checked taken for right. On a
// processor with the wrong kernel the untrusted ways are the only ones that pass.
TEST_CASE("what is not trusted is computed in another way, and rightly") {
  for (const bool channels_last : {false, true}) {
    const Drawn exact = draw(two_frames, at::kFloat, channels_last);
    const Drawn reduced{exact.input.to(at::kBFloat16), exact.weight.to(at::kBFloat16), exact.gradient.to(at::kBFloat16)};
    const auto expected = through_the_dispatcher(two_frames, {reduced.input.to(at::kFloat), reduced.weight.to(at::kFloat), reduced.gradient.to(at::kFloat)});
    const auto library = [&] {
      const TrustAll trust_all;
      return through_the_dispatcher(two_frames, reduced);
    }();
    const KernelCall call = call_of(two_frames, at::kBFloat16, channels_last);
    for (const KernelRoutes::Trust trust : {KernelRoutes::Trust{}, KernelRoutes::Trust{true, true, false, true}, KernelRoutes::Trust{true, true, false, false}, KernelRoutes::Trust{false, true, false, true}}) {
      KernelRoutes::instance().trust({{call.text(), trust}});
      const auto results = through_the_dispatcher(two_frames, reduced);
      for (std::size_t i = 0; i < results.size(); ++i) {
        CHECK((results[i].scalar_type() == at::kBFloat16));
        // What is trusted is the library's own, with its own error.
        const bool own = i == 0 ? trust.input_gradient : i == 1 ? trust.weight_gradient : trust.output;
        if (own) CHECK(relative(results[i], library[i]) == 0);
        else CHECK(relative(results[i], expected[i]) < 0.004);
      }
    }
    KernelRoutes::instance().trust({});
    // fp32 is not touched.
    const auto again = through_the_dispatcher(two_frames, exact);
    CHECK(relative(again[1], library_weight_gradient(two_frames, exact)) == 0);
  }
  const TrustAll trust_all;
  MESSAGE("the library's own weight gradient over two frames in bf16 has the relative error ", check_kernel(call_of(two_frames, at::kBFloat16, true)).weight_gradient);
}

// Mistake caught: a wrong attention that is named and used all the same.
TEST_CASE("an attention that is not trusted turns the fused kernel off, and the next table on again") {
  const at::Tensor q = at::randn({2, 2, 9, 16}).to(at::kBFloat16);
  const auto calls = calls_of([&] { static_cast<void>(at::scaled_dot_product_attention(q, q, q)); });
  REQUIRE(!calls.empty());
  KernelRoutes::instance().trust({{calls[0].text(), {}}});
  CHECK(!at::globalContext().userEnabledFlashSDP());
  KernelRoutes::instance().trust({{calls[0].text(), KernelRoutes::everything}});
  CHECK(at::globalContext().userEnabledFlashSDP());
}

// Mistake caught: a norm's route that is never taken, or that leaves its result in fp32.
TEST_CASE("a norm that is not trusted runs in fp32") {
  const at::Tensor x = at::randn({2, 8, 3, 4, 4}).to(at::kBFloat16), ones = at::rand({8}) + 0.5, zeros = at::randn({8});
  const auto run = [&](const at::Tensor& in) { return at::batch_norm(in, ones, zeros, at::zeros({8}), at::ones({8}), true, 0.1, 1e-5, false); };
  const auto under_autocast = [&] {
    at::autocast::set_autocast_enabled(at::kCPU, true);
    const at::Tensor out = run(x);
    at::autocast::set_autocast_enabled(at::kCPU, false);
    return out;
  };
  KernelRoutes::instance().trust({});
  const at::Tensor ours = under_autocast();
  CHECK((ours.scalar_type() == at::kBFloat16));
  CHECK(at::equal(ours, run(x.to(at::kFloat)).to(at::kBFloat16)));
}

namespace {

// A child that answers what a script says.
AuditOptions answered_by(const std::string& script, const std::filesystem::path& cache = {}) {
  AuditOptions options;
  options.program = "/bin/sh";
  options.arguments = {"-c", script};
  options.cache = cache;
  options.child_memory = GiB;
  return options;
}

const std::string right = R"(echo '{"output":0.001,"input_gradient":0.001,"weight_gradient":0.001,"products":0.001}';)";
const std::string wrong = R"(echo '{"output":0.001,"input_gradient":0.001,"weight_gradient":1e30,"products":0.001}';)";

std::vector<KernelCall> three_calls() {
  std::vector<KernelCall> calls;
  for (const std::int64_t frames : {2, 4, 6}) calls.push_back(call_of({{2, 4, frames, 4, 4}, {4, 4, 3, 3, 3}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}}, at::kBFloat16));
  return calls;
}

}  // namespace

// Mistake caught: verdicts that go to the wrong kernel after a crash, a crash taken for a pass, a child that is waited for for ever.
TEST_CASE("a kernel at which the child dies is not trusted, and those behind it are checked") {
  const auto calls = three_calls();
  const std::string folder = std::filesystem::temp_directory_path().string() + "/sluice-audit-" + std::to_string(::getpid());
  // The first child dies at its second kernel, the second one answers for the third.
  const std::string script = "if [ -e " + folder + "/once ]; then echo ready; " + wrong + " else : > " + folder + "/once; echo ready; " + right + " kill -SEGV $$; fi";
  std::filesystem::create_directories(folder);
  const auto audit = audit_kernels(calls, answered_by(script));
  std::filesystem::remove_all(folder);
  CHECK(audit.checked == 3);
  CHECK(audit.trust.at(calls[0].text()) == KernelRoutes::everything);
  CHECK(audit.trust.at(calls[1].text()) == KernelRoutes::Trust{});
  CHECK(audit.trust.at(calls[2].text()) == KernelRoutes::Trust{true, true, false, true});
  REQUIRE(audit.routed.size() == 2);
  CHECK(audit.routed[0].find("2 to") == std::string::npos);
  CHECK(audit.routed[1].find("6x4x4") != std::string::npos);
  CHECK(audit.routed[1].find("its weight gradient is wrong on this machine, computed by matrix products") != std::string::npos);
  CHECK(audit.why[1].find("its weight gradient is wrong on this machine (relative error not finite), computed by matrix products") != std::string::npos);
}

// Mistake caught: trust without a check where no child can be had, for want of memory or of the program; talk that is no answer.
TEST_CASE("without a child nothing is trusted") {
  const auto calls = three_calls();
  AuditOptions too_little = answered_by("echo ready; " + right + right + right);
  CHECK(audit_kernels(calls, too_little).routed.empty());
  too_little.child_memory = 100 * MiB;
  AuditOptions no_program = too_little;
  no_program.child_memory = GiB;
  no_program.program = "/nowhere/sluice";
  for (const auto& options : {too_little, no_program, answered_by("exit 0"), answered_by("echo hello")}) {
    const auto audit = audit_kernels(calls, options);
    CHECK(audit.checked == 0);
    for (const auto& call : calls) CHECK(audit.trust.at(call.text()) == KernelRoutes::Trust{});
    REQUIRE(audit.routed.size() == 3);
    CHECK(audit.routed[0].find("could not be checked, computed in fp32") != std::string::npos);
  }
}

// Mistake caught: weights that follow from host_ram, for what could not be checked in it is computed in fp32.
TEST_CASE("where memory was short for the check it is said how much would have been enough") {
  const auto calls = three_calls();
  const std::string large = R"(echo '{"output":0.001,"input_gradient":0.001,"weight_gradient":0.001,"products":0.001,"peak":1000000000}';)";
  AuditOptions options = answered_by("echo ready; " + right + large + right);
  options.spare = 2 * GiB;
  CHECK(audit_kernels(calls, options).child_needs == 0);
  options.child_memory = 100 * MiB;
  CHECK(audit_kernels(calls, options).child_needs == 160 * MiB + 1000000000);
  options.arguments[1] = "echo ready; " + right + right + right;
  const std::uint64_t least = audit_kernels(calls, options).child_needs;
  options.child_memory = least;
  CHECK(audit_kernels(calls, options).child_needs == 0);
  options.arguments[1] = "echo ready; echo memory; " + right + right;
  CHECK(audit_kernels(calls, options).child_needs > options.spare);
  // A cgroup that has no more than the budget: nothing larger can be tried, and it is short all the same.
  options.spare = 50 * MiB;
  CHECK(audit_kernels(calls, options).child_needs > options.child_memory);
  options.child_memory = 100 * MiB;
  CHECK(audit_kernels(calls, options).child_needs == least);
}

// Mistake caught: a verdict that is none, kept for good: a kernel for which memory was short once, and computed in fp32 ever after.
TEST_CASE("a kernel for which memory was short is not trusted, and checked again at the next start") {
  const auto calls = three_calls();
  // What the child itself says: an error of its memory, not of the kernel.
  auto& allocator = CappedAllocator::install();
  allocator.set_cap(allocator.counters().live + 1024);
  CHECK_THROWS_AS(static_cast<void>(check_kernel(calls.front())), c10::OutOfMemoryError);
  allocator.set_cap(0);
  for (const std::string& short_of_memory : {"echo memory; " + right, std::string("kill -KILL $$;")}) {
    CAPTURE(short_of_memory);
    const testing::ScratchFolder cache;
    const std::string once = (cache.path() / "once").string();
    // A child that is killed is followed by another one, which answers for the third.
    const std::string script = "if [ -e " + once + " ]; then echo ready; " + right + " else : > " + once + "; echo ready; " + right + short_of_memory + " fi";
    const auto first = audit_kernels(calls, answered_by(script, cache.path()));
    CHECK(first.checked == 2);
    CHECK(first.trust.at(calls[1].text()) == KernelRoutes::Trust{});
    REQUIRE(first.routed.size() == 1);
    CHECK(first.routed[0].find("could not be checked, computed in fp32") != std::string::npos);
    const auto second = audit_kernels(calls, answered_by("echo ready; " + right, cache.path()));
    CHECK(second.checked == 1);
    CHECK(second.routed.empty());
  }
}

// Mistake caught: a check at every start; a cache that a changed file fools; one verdict for another number of threads.
TEST_CASE("verdicts are kept, by machine and threads, and a damaged file is not believed") {
  const testing::ScratchFolder cache;
  const auto calls = three_calls();
  const auto first = audit_kernels(calls, answered_by("echo ready; " + right + wrong + right, cache.path()));
  CHECK(first.checked == 3);
  const auto second = audit_kernels(calls, answered_by("exit 1", cache.path()));
  CHECK(second.checked == 0);
  CHECK(second.routed == first.routed);
  CHECK(second.trust == first.trust);
  AuditOptions other_threads = answered_by("echo ready; " + right + right + right, cache.path());
  other_threads.threads = 7;
  CHECK(audit_kernels(calls, other_threads).checked == 3);
  for (const auto& entry : std::filesystem::directory_iterator(cache.path())) {
    std::string text;
    {
      std::ifstream file(entry.path());
      text.assign(std::istreambuf_iterator<char>(file), {});
    }
    const auto at = text.find("1e+30");
    if (at == std::string::npos) continue;
    std::ofstream(entry.path()) << text.replace(at, 5, "0.001");
  }
  CHECK(audit_kernels(calls, answered_by("echo ready; " + right + wrong + right, cache.path())).checked == 3);
}
