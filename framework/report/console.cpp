// Lines and one live line. No signal handler and no hidden cursor: the width is asked for at each redraw, and a killed process leaves a
// terminal that works.
#include "framework/report/console.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <optional>

#include <sys/ioctl.h>
#include <unistd.h>

#include "framework/base/afresh.hpp"
#include "framework/base/strings.hpp"

namespace sluice {
namespace {

constexpr std::string_view erase_line = "\r\x1b[K";

// The character at the front: its bytes and code; one byte and nothing where it is not UTF-8.
struct Character {
  std::size_t bytes = 1;
  std::optional<std::uint32_t> code;
};
Character front_of(std::string_view text) {
  const auto first = static_cast<unsigned char>(text.front());
  const std::size_t bytes = first < 0x80 ? 1 : first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (bytes > text.size() || first_bad_utf8(text.substr(0, bytes))) return {};
  std::uint32_t code = bytes == 1 ? first : first & (0x7Fu >> bytes);
  for (std::size_t i = 1; i < bytes; ++i) code = code << 6 | (static_cast<unsigned char>(text[i]) & 0x3Fu);
  return {bytes, code};
}

bool control(std::uint32_t code) { return code < 0x20 || (code >= 0x7F && code < 0xA0); }

// Bidirectional and other invisible marks reorder or hide what follows them.
bool invisible(std::uint32_t code) {
  return (code >= 0x200B && code <= 0x200F) || (code >= 0x2028 && code <= 0x202E) || (code >= 0x2060 && code <= 0x206F) || code == 0xFEFF;
}

// Unicode's East Asian Wide and Fullwidth blocks, and pictographs (UAX 11), coarsely: too wide a guess only leaves a gap at the margin.
int columns_of_code(std::uint32_t code) {
  if ((code >= 0x0300 && code <= 0x036F) || (code >= 0xFE00 && code <= 0xFE0F)) return 0;
  const bool wide = (code >= 0x1100 && code <= 0x115F) || (code >= 0x2E80 && code <= 0xA4CF) || (code >= 0xA960 && code <= 0xA97F) ||
                    (code >= 0xAC00 && code <= 0xD7A3) || (code >= 0xF900 && code <= 0xFAFF) || (code >= 0xFE30 && code <= 0xFE6F) ||
                    (code >= 0xFF00 && code <= 0xFF60) || (code >= 0xFFE0 && code <= 0xFFE6) || (code >= 0x1F300 && code <= 0x1FAFF) ||
                    (code >= 0x20000 && code <= 0x3FFFD);
  return wide ? 2 : 1;
}

int columns_of_front(const Character& character) {
  return !character.code || control(*character.code) || invisible(*character.code) ? 1 : columns_of_code(*character.code);
}

}  // namespace

std::string printable(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const auto character = front_of(text);
    if (!character.code || control(*character.code) || invisible(*character.code)) out += '?';
    else out += text.substr(0, character.bytes);
    text.remove_prefix(character.bytes);
  }
  return out;
}

int columns_of(std::string_view text) {
  int columns = 0;
  while (!text.empty()) {
    const auto character = front_of(text);
    columns += columns_of_front(character);
    text.remove_prefix(character.bytes);
  }
  return columns;
}

std::string fitted(std::string_view text, int columns) {
  if (columns_of(text) <= columns) return std::string(text);
  const std::string_view dots = "...";
  const int room = std::max(0, columns - static_cast<int>(dots.size()));
  std::string out;
  for (int used = 0; !text.empty();) {
    const auto character = front_of(text);
    used += columns_of_front(character);
    if (used > room) break;
    out += text.substr(0, character.bytes);
    text.remove_prefix(character.bytes);
  }
  out += dots.substr(0, static_cast<std::size_t>(std::clamp(columns, 0, 3)));
  return out;
}

Console::Console(int fd, Mode mode) : fd_(fd), quiet_(mode == Mode::quiet) {
  const char* terminal = std::getenv("TERM");
  const bool capable = terminal && *terminal && std::string_view(terminal) != "dumb";
  live_ = mode == Mode::automatic && ::isatty(fd) == 1 && capable;
}

Console::~Console() { clear(); }

int Console::width() const {
  winsize size{};
  if (::ioctl(fd_, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

void Console::write(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const auto count = ::write(fd, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      if (fd == fd_ && errno != EAGAIN) gone_ = true;
      return;
    }
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
}

namespace {

// Each line made printable, each with its newline.
std::string lines_of(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const auto end = text.find('\n');
    out += printable(text.substr(0, end));
    out += '\n';
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return out;
}

}  // namespace

void Console::print(std::string_view text) {
  if (!quiet_) print_also_when_quiet(text);
}

void Console::print_also_when_quiet(std::string_view text) {
  if (was_said(text)) return;
  const std::lock_guard lock(mutex_);
  if (gone_) return;
  std::string out;
  if (!shown_.empty()) out += erase_line;
  out += lines_of(text);
  out += shown_;
  write(fd_, out);
}

void Console::print_error(std::string_view text) {
  if (was_said(text)) return;
  const std::lock_guard lock(mutex_);
  if (!shown_.empty() && !gone_) write(fd_, erase_line);
  write(STDERR_FILENO, lines_of(text));
  if (!shown_.empty() && !gone_) write(fd_, shown_);
}

void Console::show(std::string_view text) {
  const std::lock_guard lock(mutex_);
  if (!live_ || gone_) return;
  // One column stays free: a line that fills the last one wraps on some terminals.
  const std::string line = fitted(printable(text), width() - 1);
  if (line == shown_) return;
  std::string out(erase_line);
  out += line;
  shown_ = line;
  write(fd_, out);
}

void Console::clear() {
  const std::lock_guard lock(mutex_);
  if (!shown_.empty() && !gone_) write(fd_, erase_line);
  shown_.clear();
}

}  // namespace sluice
