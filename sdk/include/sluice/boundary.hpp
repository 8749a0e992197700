// Where C++ meets the C boundary, in plugins and in the host alike: no exception passes, its text does.
#pragma once

#include <algorithm>
#include <cstring>
#include <exception>
#include <new>
#include <string_view>

#include <sluice/abi.hpp>
#include <sluice/error.hpp>

namespace sluice::detail {

template <std::size_t Size> void fill(char (&to)[Size], std::string_view from) {
  const auto n = std::min(from.size(), Size - 1);
  std::memcpy(to, from.data(), n);
  to[n] = 0;
}

// Runs a plugin's code at the boundary: no exception passes, its text does.
template <class Function> int guarded(abi::Failure* failure, Function&& function) noexcept {
  const auto report = [&](Code code, std::string_view what, std::string_view hint) {
    if (failure) {
      failure->code = static_cast<std::int32_t>(code);
      fill(failure->what, what);
      fill(failure->hint, hint);
    }
    return static_cast<int>(code);
  };
  try {
    function();
    return 0;
  } catch (const Error& error) {
    return report(error.code(), error.where().empty() ? error.message() : error.where() + ": " + error.message(), error.hint());
  } catch (const std::bad_alloc&) {
    return report(Code::memory, "out of memory inside the plugin", "the machine has no more: close other programs, or lower budget.host_ram below what is free; --resume goes on");
  } catch (const std::exception& error) {
    return report(Code::data, error.what(), "");
  } catch (...) {
    return report(Code::data, "the plugin threw something that is no std::exception", "");
  }
}

}  // namespace sluice::detail
