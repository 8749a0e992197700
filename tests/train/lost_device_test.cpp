// Which errors say that a device is gone, and what a person is told.
#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>
#include <c10/util/Logging.h>  // its CHECK gives way to doctest's, which comes after it
#include <doctest/doctest.h>

#include <stdexcept>
#include <string>

#include "framework/train/lost_device.hpp"

using namespace sluice;

namespace {

c10::AcceleratorError numbered(std::int32_t code, const std::string& text = "CUDA error: something") { return {{"f", "f.cpp", 1}, code, text}; }
c10::Error in_words(const std::string& text) { return {c10::SourceLocation{"f", "f.cpp", 1}, text}; }

}  // namespace

// Catches: a list that misses what is met most, one that takes a missing kernel or a full card for a dead one and then saves nothing.
TEST_CASE("by number: what ends a context or finds no device is lost; no memory, no such kernel, wrong arguments are not") {
  for (const std::int32_t code : {46, 100, 214, 220, 304, 700, 702, 710, 714, 715, 716, 719, 802, 999}) {
    CAPTURE(code);
    CHECK(says_device_is_lost(numbered(code)));
  }
  for (const std::int32_t code : {1, 2, 9, 98, 209, 222, 701, 720, 801, 901}) {
    CAPTURE(code);
    CHECK_FALSE(says_device_is_lost(numbered(code)));
  }
}

TEST_CASE("by words, where a library gives no number; a number wins over words, and what was told already is told once") {
  for (const char* text : {"CUDA error: device-side assert triggered\nCompile with `TORCH_USE_CUDA_DSA`", "CUDA error: the launch timed out and was terminated", "CUDA error: uncorrectable ECC error encountered",
                           "CUDA error: no CUDA-capable device is detected", "CUDA driver error: device not ready", "CUDA driver error: device is lost", "CUDA error: unknown error",
                           "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`", "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", "CUDA error: an illegal memory access was encountered"}) {
    CAPTURE(text);
    CHECK(says_device_is_lost(in_words(text)));
    CHECK(says_device_is_lost(std::runtime_error(text)));
    CHECK_FALSE(says_device_is_lost(Error(Code::plugin, text)));
    CHECK_FALSE(says_device_is_lost(numbered(2, text)));
  }
  for (const char* text : {"CUDA error: out of memory", "CUDA error: no kernel image is available for execution on the device", "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED", "unknown error",
                           "mat1 and mat2 shapes cannot be multiplied", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"}) {
    CAPTURE(text);
    CHECK_FALSE(says_device_is_lost(in_words(text)));
  }
  CHECK_FALSE(says_device_is_lost(c10::OutOfMemoryError({"f", "f.cpp", 1}, "CUDA error: unknown error")));
}

TEST_CASE("the message: which device, where, the driver's first line, what to do; an assertion is the program's own") {
  const DeviceUse use{at::Device(at::kCUDA, 1), "step 7", "go on from step-6 with --resume"};
  const Error lost = lost_device(numbered(214, "CUDA error: uncorrectable ECC error encountered\nSearch for it"), use);
  CHECK(lost.code() == Code::io);
  CHECK(lost.message() == "cuda:1 was lost in step 7: CUDA error: uncorrectable ECC error encountered");
  CHECK(lost.hint().find("nvidia-smi --gpu-reset") != std::string::npos);
  CHECK(lost.hint().ends_with("Then go on from step-6 with --resume"));
  const Error failed = lost_device(in_words("CUDA error: device-side assert triggered"), {});
  CHECK(failed.code() == Code::plugin);
  CHECK(failed.message().starts_with("a kernel on the device failed its assertion, and"));
  CHECK(failed.hint().find("--debug names the operation") != std::string::npos);
  CHECK(failed.hint().ends_with("Then give the same command again"));
}

// Catches: a border that hides another error, or asks for a place before anything went wrong.
TEST_CASE("on_device gives back what was made, says what was lost and lets all else through; destructors outlive a device") {
  const auto never = []() -> DeviceUse { throw std::logic_error("asked for nothing"); };
  CHECK(on_device(never, [] { return 3; }) == 3);
  CHECK_THROWS_WITH_AS(on_device(never, [] { throw std::runtime_error("other"); }), "other", std::runtime_error);
  CHECK_THROWS_AS(on_device(never, [] { throw c10::OutOfMemoryError({"f", "f.cpp", 1}, "no memory"); }), c10::OutOfMemoryError);
  CHECK_THROWS_AS(on_device([] { return DeviceUse{}; }, [] { throw numbered(719); }), Error);
  put_back([] { throw numbered(719); });
}
