// What one source for CPU and CUDA relies on: device-generic headers without a toolkit, and asking before taking.
#include <ATen/Context.h>
#include <ATen/core/CachingHostAllocator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <doctest/doctest.h>

// Mistake caught: asking the allocators whether there is a GPU. A CPU build has none (one way of asking gives null, the other
// throws); a CUDA build has them without any device too: only hasCUDA() knows.
TEST_CASE("allocators of a device kind tell what was built, hasCUDA() what is there") {
  const bool built = at::getHostAllocator(at::kCUDA) != nullptr;
  if (built) {
    CHECK(c10::getDeviceAllocator(at::kCUDA) != nullptr);
  } else {
    CHECK_THROWS_AS(c10::getDeviceAllocator(at::kCUDA), c10::Error);
    CHECK_FALSE(at::globalContext().hasCUDA());
  }
}

// Mistake caught: a device-generic path that does not work on the CPU, where most tests run.
TEST_CASE("guards are generic: the CPU's has one device and a default stream") {
  const c10::impl::VirtualGuardImpl guard(c10::DeviceType::CPU);
  CHECK(guard.deviceCount() == 1);
  CHECK(guard.getDevice().type() == c10::DeviceType::CPU);
}
