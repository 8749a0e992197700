// A device that is gone while a run goes on: how its errors are told from others, and what a person is told.
//
//   return on_device([&] { return DeviceUse{session.device, "step 7", "go on from step-6 with --resume"}; }, [&] { ...; return 0; });
//
// From the first such error on, all that is asked of the device fails in the same way. So whoever catches errors in between to save something, or to try
// once more, asks says_device_is_lost() first and lets those through.
#pragma once

#include <exception>
#include <functional>
#include <optional>
#include <string>

#include <c10/core/Device.h>

#include <sluice/error.hpp>

namespace sluice {

// False for what leaves the device usable: memory that it has not, a kernel that it cannot run, arguments that are wrong.
[[nodiscard]] bool says_device_is_lost(const std::exception& error);

struct DeviceUse {
  std::optional<at::Device> device{};
  std::string where{};  // "step 7", "the evaluation"
  std::string go_on{};  // what to do once it is back; empty: the same command again
};
// Code::io, for the same command may well work once the device is back; Code::plugin where a kernel failed its own assertion, as it would again.
[[nodiscard]] Error lost_device(const std::exception& error, const DeviceUse& use);

// In a handler: throws `error` on, as lost_device() where it says that.
[[noreturn]] void throw_on(const std::exception& error, const std::function<DeviceUse()>& use);

// Calls `work`. `use` is asked when it has failed.
template <class Work> decltype(auto) on_device(const std::function<DeviceUse()>& use, Work&& work) {
  try {
    return work();
  } catch (const std::exception& error) {
    throw_on(error, use);
  }
}

// For destructors that put something back on a device: where that is gone there is nothing to put it back on.
template <class Work> void put_back(Work&& work) noexcept {
  try {
    work();
  } catch (const std::exception& error) {
    if (!says_device_is_lost(error)) std::terminate();
  }
}

// From here on a destructor of a library that finds its device gone ends the process with the message and its code, instead of abort().
void end_with_message_where_device_is_lost();

}  // namespace sluice
