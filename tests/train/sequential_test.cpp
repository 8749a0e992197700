// A torch::nn::Sequential run as segments, against its own forward().
#include <sluice/torch/sequential.hpp>

#include <ATen/Context.h>
#include <ATen/ops/randn.h>
#include <doctest/doctest.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/conv.h>

#include "framework/train/pass.hpp"

using namespace sluice;

namespace {

torch::nn::Sequential layers() {
  at::manual_seed(4);
  return torch::nn::Sequential(torch::nn::Conv3d(torch::nn::Conv3dOptions(3, 8, 3)), torch::nn::BatchNorm3d(8), torch::nn::ReLU(torch::nn::ReLUOptions(true)),
          torch::nn::Conv3d(torch::nn::Conv3dOptions(8, 4, 3)), torch::nn::ReLU());
}

struct Names final : SegmentObserver {
  std::vector<std::string> seen;
  int again = 0;
  void begins(const std::string& path) override { seen.push_back(path); }
  void ends(const std::string&, const std::vector<at::Tensor>&) override {}
  void saves_output(const std::string&) override {}
  void runs_again(const std::string&, bool begins) override { again += begins; }
  void comes_back(const std::string&) override {}
};

}  // namespace

// Mistakes caught: a layer left out or run twice, an activation in place that changes the input of its own segment.
TEST_CASE("a Sequential is split into segments, and checkpointing them changes no bit") {
  const at::Tensor clip = at::randn({2, 3, 6, 8, 8});
  auto plain = layers();
  plain->forward(clip).square().sum().backward();
  for (const bool all : {false, true}) {
    auto split = layers();
    std::vector<at::Tensor> statistics = split->buffers();
    const SegmentPlan checkpointing{all, {}};
    Names names;
    MicrobatchPass pass(true, {1, 2}, {&checkpointing, statistics, &names});
    sluice::forward(split, "net", clip, pass).square().sum().backward();
    CHECK(names.seen == std::vector<std::string>{"net.0", "net.3"});
    CHECK(names.again == (all ? 2 : 0));
    for (std::size_t i = 0; i < split->parameters().size(); ++i) CHECK(split->parameters()[i].grad().equal(plain->parameters()[i].grad()));
    for (std::size_t i = 0; i < statistics.size(); ++i) CHECK(statistics[i].equal(plain->buffers()[i]));
  }
}
