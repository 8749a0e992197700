// The log: lines on standard error and in the run's file, one at a time whichever thread writes. spdlog stays in log.cpp.
//
//   sluice::log::info("epoch {} of {}", epoch, epochs);
#pragma once

#include <filesystem>
#include <functional>
#include <string_view>

#include <fmt/format.h>

namespace sluice::log {

enum class Level { debug, info, warning, error };

void write(Level level, std::string_view line);

template <class... A> void debug(fmt::format_string<A...> format, A&&... values) { write(Level::debug, fmt::format(format, std::forward<A>(values)...)); }
template <class... A> void info(fmt::format_string<A...> format, A&&... values) { write(Level::info, fmt::format(format, std::forward<A>(values)...)); }
template <class... A> void warning(fmt::format_string<A...> format, A&&... values) { write(Level::warning, fmt::format(format, std::forward<A>(values)...)); }
template <class... A> void error(fmt::format_string<A...> format, A&&... values) { write(Level::error, fmt::format(format, std::forward<A>(values)...)); }

// The least level that is shown; info by default.
void set_level(Level level);
// Lines go to this file too, appended, with time and level. Throws Error(Code::io).
void to_file(const std::filesystem::path& file);
// Takes the place of standard error, e.g. for a live line that must be cleared first; an empty function gives it back.
// Called under the log's lock: it must not log.
void set_console(std::function<void(Level, std::string_view)> console);
// Whether standard error is a terminal that wants colour (and NO_COLOR is not set).
[[nodiscard]] bool colour();

}  // namespace sluice::log
