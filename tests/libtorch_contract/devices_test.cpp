// What one source for CPU and CUDA relies on: device-generic headers without a toolkit, and asking before taking.
#include <ATen/Context.h>
#include <ATen/core/CachingHostAllocator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <doctest/doctest.h>

// Mistake caught: asking for a CUDA allocator where there is none; one way of asking gives null, the other throws.
TEST_CASE("without a CUDA device the generic allocators say so, each in its way") {
  if (at::globalContext().hasCUDA()) {
    CHECK(at::getHostAllocator(at::kCUDA) != nullptr);
    CHECK(c10::getDeviceAllocator(at::kCUDA) != nullptr);
  } else {
    CHECK(at::getHostAllocator(at::kCUDA) == nullptr);
    CHECK_THROWS_AS(c10::getDeviceAllocator(at::kCUDA), c10::Error);
  }
}

// Mistake caught: a device-generic path that does not work on the CPU, where most tests run.
TEST_CASE("guards are generic: the CPU's has one device and a default stream") {
  const c10::impl::VirtualGuardImpl guard(c10::DeviceType::CPU);
  CHECK(guard.deviceCount() == 1);
  CHECK(guard.getDevice().type() == c10::DeviceType::CPU);
}
