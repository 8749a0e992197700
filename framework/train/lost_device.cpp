// By the numbers of CUDA's runtime where LibTorch hands them on, else by the words of its libraries.
#include "framework/train/lost_device.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string_view>

#include <c10/util/Exception.h>
#include <fmt/format.h>

namespace sluice {
namespace {

// cudaError_t of CUDA's driver_types.h, whose numbers are part of its interface: those after which the process has to be started anew, and those of a
// device, or a way to it, that is not there. Others (no memory, no such kernel, wrong arguments) leave the device usable.
constexpr std::array<std::int32_t, 27> lost{
    3,   4,   46,  100, 101, 201, 304, 600, 802, 805, 806, 807, 999,      // not initialized, shut down, busy, not there, not ready, its service gone, unknown
    214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721  // memory or NVLink that cannot be corrected; a kernel failed, and its context with it
};
constexpr std::int32_t assertion = 710;

// Of libraries that throw without a number: the beginning of their message, and what it has to contain.
struct Words {
  std::string_view library, failure;
};
constexpr std::array words{
    Words{"CUDA", "device-side assert"},       Words{"CUDA", "launch timed out"},     Words{"CUDA", "illegal memory access"},   Words{"CUDA", "misaligned address"},
    Words{"CUDA", "illegal instruction"},      Words{"CUDA", "unspecified launch failure"}, Words{"CUDA", "hardware stack error"}, Words{"CUDA", "uncorrectable"},
    Words{"CUDA", "no CUDA-capable device"},   Words{"CUDA", "device(s) is/are busy"}, Words{"CUDA", "device not ready"},        Words{"CUDA", "device is lost"},
    Words{"CUDA", "unknown error"},            Words{"CUDA", "GPU is lost"},          Words{"CUDA", "context is destroyed"},    Words{"CUDA", "driver shutting down"},
    Words{"CUDA", "STATUS_EXECUTION_FAILED"},  Words{"CUDA", "STATUS_MAPPING_ERROR"}, Words{"cuDNN", "STATUS_EXECUTION_FAILED"}, Words{"cuDNN", "STATUS_MAPPING_ERROR"},
};

std::string_view text_of(const std::exception& error) {
  const auto* own = dynamic_cast<const c10::Error*>(&error);
  return own ? own->what_without_backtrace() : error.what();
}

std::string first_line(std::string_view text) { return std::string(text.substr(0, text.find('\n'))); }

bool says_assertion(const std::exception& error) {
  const auto* numbered = dynamic_cast<const c10::AcceleratorError*>(&error);
  return (numbered && numbered->get_error_code() == assertion) || text_of(error).find("device-side assert") != std::string_view::npos;
}

void print(const Error& error) { std::fprintf(stderr, "error: %s\n", error.what()); }

std::terminate_handler handler_before = nullptr;
// On its way to whoever prints it. Immortal: destructors of statics may end the process too.
std::optional<Error>& thrown() {
  static auto& error = *std::make_unique<std::optional<Error>>().release();
  return error;
}

[[noreturn]] void at_terminate() {
  if (const auto current = std::current_exception()) {
    try {
      std::rethrow_exception(current);
    } catch (const std::exception& error) {
      if (says_device_is_lost(error)) {
        const Error message = thrown().value_or(lost_device(error, {}));
        print(message);
        std::_Exit(static_cast<int>(message.code()));
      }
    } catch (...) {
    }
  }
  if (handler_before) handler_before();
  std::abort();
}

}  // namespace

bool says_device_is_lost(const std::exception& error) {
  if (dynamic_cast<const Error*>(&error) || dynamic_cast<const c10::OutOfMemoryError*>(&error)) return false;
  if (const auto* numbered = dynamic_cast<const c10::AcceleratorError*>(&error)) {
    return std::find(lost.begin(), lost.end(), numbered->get_error_code()) != lost.end();
  }
  const auto text = text_of(error);
  return std::any_of(words.begin(), words.end(), [&](const Words& known) {
    const auto at = text.find(known.library);
    return at != std::string_view::npos && text.find(known.failure, at) != std::string_view::npos;
  });
}

Error lost_device(const std::exception& error, const DeviceUse& use) {
  const std::string where = use.where.empty() ? "" : " in " + use.where, device = use.device ? use.device->str() : "the device";
  const std::string driver = first_line(text_of(error)), again = use.go_on.empty() ? "give the same command again" : use.go_on;
  if (says_assertion(error))
    return Error(Code::plugin, fmt::format("a kernel on {} failed its assertion{}, and the device takes no more work of this process: {}", device, where, driver),
                 fmt::format("mostly an index out of range, such as a label beyond the classes: --debug names the operation, one at a time. Then {}", again));
  return Error(Code::io, fmt::format("{} was lost{}: {}", device, where, driver),
               fmt::format("the driver's log says why (dmesg, nvidia-smi -q, sluice doctor); reset the card (nvidia-smi --gpu-reset) or restart the machine. Then {}", again));
}

void throw_on(const std::exception& error, const std::function<DeviceUse()>& use) {
  if (!says_device_is_lost(error)) throw;
  thrown() = lost_device(error, use());
  throw Error(*thrown());
}

void end_with_message_where_device_is_lost() {
  if (std::get_terminate() != at_terminate) handler_before = std::set_terminate(at_terminate);
}

}  // namespace sluice
