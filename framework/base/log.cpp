// The log over spdlog, without threads of its own.
#include "framework/base/log.hpp"

#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>

#include <spdlog/sinks/base_sink.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/dist_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <sluice/error.hpp>

#include "framework/base/afresh.hpp"

namespace sluice::log {
namespace {

using Console = std::function<void(Level, std::string_view)>;

Level level_of(spdlog::level::level_enum level) {
  if (level >= spdlog::level::err) return Level::error;
  if (level == spdlog::level::warn) return Level::warning;
  return level == spdlog::level::info ? Level::info : Level::debug;
}

spdlog::level::level_enum level_of(Level level) {
  switch (level) {
    case Level::debug: return spdlog::level::debug;
    case Level::info: return spdlog::level::info;
    case Level::warning: return spdlog::level::warn;
    case Level::error: return spdlog::level::err;
  }
  return spdlog::level::err;
}

void to_standard_error(Level level, std::string_view line) {
  std::string out;
  const bool coloured = colour();
  if (level == Level::warning) out += coloured ? "\033[33mwarning:\033[0m " : "warning: ";
  if (level == Level::error) out += coloured ? "\033[31merror:\033[0m " : "error: ";
  out += line;
  if (was_said(out)) return;
  out += '\n';
  std::fwrite(out.data(), 1, out.size(), stderr);
}

class ConsoleSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  void replace(Console console) {
    const std::lock_guard lock(mutex_);
    console_ = std::move(console);
  }

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    const std::string_view line(message.payload.data(), message.payload.size());
    if (console_) console_(level_of(message.level), line);
    else to_standard_error(level_of(message.level), line);
  }
  void flush_() override {}

  Console console_;
};

// Immortal: threads of libraries may log while the process ends.
struct Log {
  std::shared_ptr<ConsoleSink> console = std::make_shared<ConsoleSink>();
  std::shared_ptr<spdlog::sinks::dist_sink_mt> sinks = std::make_shared<spdlog::sinks::dist_sink_mt>(std::vector<spdlog::sink_ptr>{console});
  spdlog::logger logger{"sluice", sinks};
};
Log& the_log() {
  static Log& log = *std::make_unique<Log>().release();
  return log;
}

}  // namespace

void write(Level level, std::string_view line) { the_log().logger.log(level_of(level), spdlog::string_view_t(line.data(), line.size())); }

void set_level(Level level) { the_log().logger.set_level(level_of(level)); }

void to_file(const std::filesystem::path& file) {
  try {
    auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(file.string());
    sink->set_formatter(std::make_unique<spdlog::pattern_formatter>("%Y-%m-%dT%H:%M:%SZ %l %v", spdlog::pattern_time_type::utc));
    the_log().sinks->add_sink(std::move(sink));
    the_log().logger.flush_on(spdlog::level::info);
  } catch (const spdlog::spdlog_ex& error) {
    throw Error(Code::io, error.what(), "check that the folder exists and may be written", file.string());
  }
}

void set_console(std::function<void(Level, std::string_view)> console) { the_log().console->replace(std::move(console)); }

bool colour() {
  static const bool wanted = isatty(STDERR_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr;
  return wanted;
}

}  // namespace sluice::log
