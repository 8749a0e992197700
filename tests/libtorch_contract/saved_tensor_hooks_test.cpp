// What checkpointing and offload rely on: an engine of our own decides what happens to each tensor that autograd saves.
#include "small_net.hpp"

#include <c10/core/GradMode.h>
#include <doctest/doctest.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/saved_variable_hooks.h>

#include <functional>
#include <memory>

namespace {

using Hooks = torch::autograd::SavedVariableHooks;
using Factory = std::function<std::unique_ptr<Hooks>()>;

// Hooks are asked for on the thread that runs the forward pass: each thread has its own stack of factories.
thread_local std::vector<Factory> factories;

struct Within {
  explicit Within(Factory factory) { factories.push_back(std::move(factory)); }
  ~Within() { factories.pop_back(); }
  Within(const Within&) = delete;
  Within& operator=(const Within&) = delete;
};

class HookedEngine : public torch::autograd::Engine {
 public:
  std::unique_ptr<Hooks> get_default_saved_variable_hooks() override {
    return factories.empty() ? nullptr : factories.back()();
  }
};

torch::autograd::Engine& hooked_engine() {
  static auto* engine = std::make_unique<HookedEngine>().release();   // never destroyed: its threads outlive main
  return *engine;
}

const bool installed = [] {
  torch::autograd::set_default_engine_stub(hooked_engine);
  return true;
}();

struct Record {
  int packs = 0, unpacks = 0, alive = 0;
  std::vector<const void*> storages;
};

class Keep final : public Hooks {
 public:
  explicit Keep(Record& record) : record_(record) { ++record_.alive; }
  ~Keep() override { --record_.alive; }
  void call_pack_hook(const at::Tensor& tensor) override {
    ++record_.packs;
    record_.storages.push_back(tensor.storage().data());
    kept_ = tensor.detach();
  }
  at::Tensor call_unpack_hook() override {
    ++record_.unpacks;
    return kept_;
  }

 private:
  Record& record_;
  at::Tensor kept_;
};

Factory keep(Record& record) {
  return [&record] { return std::make_unique<Keep>(record); };
}

std::vector<at::Tensor> plain_gradients() {
  SmallNet net;
  net.loss(net.features(SmallNet::input())).backward();
  return net.take_gradients();
}

}  // namespace

// Mistake caught: an engine that ignores the stub (hooks never called), or a tensor saved past the hooks.
TEST_CASE("every saved tensor is packed once and unpacked once, and the gradients are bit-equal") {
  REQUIRE(installed);
  Record record;
  SmallNet net;
  at::Tensor loss;
  {
    const Within within(keep(record));
    loss = net.loss(net.features(SmallNet::input()));
  }
  CHECK(record.packs > 5);
  CHECK(record.unpacks == 0);
  loss.backward();
  CHECK(record.unpacks == record.packs);
  CHECK(bit_equal(net.take_gradients(), plain_gradients()));
  loss = at::Tensor();
  CHECK(record.alive == 0);
}

// Mistake caught: counting or moving a parameter's bytes as if they were an activation's.
TEST_CASE("hooks see parameters and views too, so that who counts bytes must look at storages") {
  Record record;
  SmallNet net;
  const Within within(keep(record));
  const at::Tensor loss = net.loss(net.features(SmallNet::input()));
  int parameters = 0;
  for (const void* storage : record.storages)
    parameters += storage == net.kernel.storage().data() || storage == net.second.storage().data() ||
                  storage == net.matrix.storage().data();
  CHECK(parameters >= 2);
}

// Mistake caught: a graph that is thrown away (OOM half way) keeps its packed tensors.
TEST_CASE("a graph dropped without a backward pass lets go of everything packed") {
  Record record;
  {
    SmallNet net;
    const Within within(keep(record));
    const at::Tensor loss = net.loss(net.features(SmallNet::input()));
    CHECK(record.alive > 5);
  }
  CHECK(record.alive == 0);
  CHECK(record.unpacks == 0);
}

// Mistake caught: trusting autograd's own check. It is off under hooks, so ours must compare versions.
TEST_CASE("an in-place change of a saved tensor is an error without hooks and silent with them") {
  const auto change_after_save = [](at::Tensor& a) {
    a = SmallNet::filled({4}, 0.5).set_requires_grad(true);
    at::Tensor b = a.mul(2);
    at::Tensor c = b.square();   // saves b
    const auto before = b._version();
    b.add_(1);
    CHECK(b._version() == before + 1);
    return c.sum();
  };
  at::Tensor a;
  at::Tensor loss = change_after_save(a);
  CHECK_THROWS_AS(loss.backward(), c10::Error);
  Record record;
  {
    const Within within(keep(record));
    loss = change_after_save(a);
  }
  CHECK_NOTHROW(loss.backward());
}

// Mistake caught: a backward pass that may not be entered again, or that hides the type of what a hook throws.
TEST_CASE("the first unpack may run the segment again, stopping at its last save: checkpointing") {
  struct Enough {};
  struct Segment {
    SmallNet& net;
    at::Tensor input;
    std::vector<at::Tensor> saved;
    std::size_t count = 0;
    int runs = 0, stops = 0;

    class Again final : public Hooks {
     public:
      explicit Again(Segment& segment) : segment_(segment) {}
      void call_pack_hook(const at::Tensor& tensor) override {
        segment_.saved.push_back(tensor.detach());
        if (segment_.saved.size() == segment_.count) throw Enough{};
      }
      at::Tensor call_unpack_hook() override { return {}; }

     private:
      Segment& segment_;
    };

    void run_again() {
      ++runs;
      const c10::AutoGradMode with_gradients(true);
      const Within within([this] { return std::make_unique<Again>(*this); });
      try {
        net.features(input);
      } catch (const Enough&) {
        ++stops;
      }
    }
  };
  class Index final : public Hooks {
   public:
    explicit Index(Segment& segment) : segment_(segment), index_(segment.count++) {}
    void call_pack_hook(const at::Tensor&) override {}
    at::Tensor call_unpack_hook() override {
      if (segment_.saved.empty()) segment_.run_again();
      return segment_.saved.at(index_);
    }

   private:
    Segment& segment_;
    std::size_t index_;
  };

  SmallNet net;
  Segment segment{net, SmallNet::input(), {}};
  at::Tensor features;
  {
    const Within within([&segment] { return std::make_unique<Index>(segment); });
    features = net.features(segment.input);
  }
  net.loss(features).backward();
  CHECK(segment.runs == 1);
  CHECK(segment.stops == 1);
  CHECK(bit_equal(net.take_gradients(), plain_gradients()));
}
