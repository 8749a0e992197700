// What the budget of a CPU run relies on: every tensor's bytes come from an allocator of ours, which may refuse.
#include "small_net.hpp"

#include <ATen/ops/empty.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>
#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <memory>

namespace {

class Capped final : public c10::Allocator {
 public:
  std::atomic<std::size_t> live{0}, peak{0}, cap{SIZE_MAX};
  std::atomic<int> refused{0};

  c10::DataPtr allocate(std::size_t bytes) override {
    const auto cpu = c10::Device(c10::DeviceType::CPU);
    if (bytes == 0) return {nullptr, nullptr, &release, cpu};
    if (live + bytes > cap) {
      ++refused;
      TORCH_CHECK_WITH(OutOfMemoryError, false, "capped: ", bytes, " bytes asked, ", cap - live, " left");
    }
    // The header is what raw_deleter needs: a deleter gets the pointer alone.
    auto* block = static_cast<std::byte*>(std::aligned_alloc(64, (bytes + 64 + 63) / 64 * 64));
    ::new (block) std::size_t(bytes);
    live += bytes;
    if (live > peak) peak = live.load();
    void* data = block + 64;
    return {data, data, &release, cpu};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { default_copy_data(to, from, bytes); }

  static Capped& instance() {
    static auto* allocator = std::make_unique<Capped>().release();   // immortal: tensors in static storage are freed after main
    return *allocator;
  }

 private:
  static void release(void* data) {
    if (!data) return;
    auto* block = static_cast<std::byte*>(data) - 64;
    instance().live -= *reinterpret_cast<std::size_t*>(block);
    std::free(block);
  }
};

// Before ours is installed: what the library's own allocator throws.
const bool default_is_typed = [] {
  try {
    at::empty({std::int64_t(1) << 55}, at::kByte);
  } catch (const c10::OutOfMemoryError&) {
    return true;
  } catch (const c10::Error&) {
  }
  return false;
}();

Capped& capped() {
  static const bool installed = [] {
    c10::SetCPUAllocator(&Capped::instance(), 255);
    return true;
  }();
  REQUIRE(installed);
  return Capped::instance();
}

std::vector<at::Tensor> step(SmallNet& net, const at::Tensor& input) {
  net.loss(net.features(input)).backward();
  return net.take_gradients();
}

}  // namespace

// Mistake caught: catching OutOfMemoryError and believing that this covers memory which is not ours.
TEST_CASE("the library's own allocator reports a lack of memory as a plain error") { CHECK_FALSE(default_is_typed); }

// Mistake caught: bytes of tensors that go past the allocator, or come from another one that was set later.
TEST_CASE("all tensors come from our allocator, and a later one of lower priority does not replace it") {
  Capped& allocator = capped();
  const std::size_t before = allocator.live;
  c10::SetCPUAllocator(c10::GetDefaultCPUAllocator(), 254);
  CHECK(c10::GetCPUAllocator() == &allocator);
  {
    const at::Tensor tensor = at::empty({1000}, at::kFloat);
    CHECK(allocator.live - before == 4000);
    CHECK(reinterpret_cast<std::uintptr_t>(tensor.data_ptr()) % 64 == 0);
    const at::Tensor view = tensor.view({10, 100}), copy = tensor.clone();
    CHECK(allocator.live - before == 8000);
  }
  CHECK(allocator.live == before);
}

// Mistake caught: a deleter whose context is not the pointer makes raw_allocate throw (storages that are resized use it).
TEST_CASE("raw allocation and growth in place go through it too") {
  Capped& allocator = capped();
  const std::size_t before = allocator.live;
  void* raw = allocator.raw_allocate(100);
  CHECK(allocator.live - before == 100);
  allocator.raw_deallocate(raw);
  {
    at::Tensor tensor = at::empty({10}, at::kByte);
    tensor.resize_({5000});
    CHECK(allocator.live - before == 5000);
  }
  CHECK(allocator.live == before);
}

// Mistake caught: an OOM that loses its type on the way through autograd, leaves bytes behind, or spoils the next step.
TEST_CASE("wherever memory ends, in forward or backward: a typed error, the bytes back, the next step bit-equal") {
  Capped& allocator = capped();
  SmallNet net;
  const at::Tensor input = SmallNet::input();
  const std::vector<at::Tensor> expected = step(net, input);
  const std::size_t baseline = allocator.live;
  allocator.peak = baseline;
  const std::vector<at::Tensor> again = step(net, input);
  REQUIRE(bit_equal(again, expected));
  const std::size_t need = allocator.peak - baseline;

  constexpr int places = 40;
  for (int i = 0; i < places; ++i) {
    CAPTURE(i);
    const std::size_t start = allocator.live;
    allocator.cap = start + need * i / places;
    CHECK_THROWS_AS(step(net, input), c10::OutOfMemoryError);
    allocator.cap = SIZE_MAX;
    net.take_gradients();   // those that the backward pass had reached
    CHECK(allocator.live == start);
  }
  CHECK(allocator.refused == places);
  CHECK(bit_equal(step(net, input), expected));
  allocator.cap = allocator.live + need;
  CHECK_NOTHROW(step(net, input));
  allocator.cap = SIZE_MAX;
}
