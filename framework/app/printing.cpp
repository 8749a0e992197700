// Text for terminals.
#include "framework/app/printing.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "framework/base/strings.hpp"

namespace sluice::app {
namespace {

// Columns of a terminal: two for the characters of East Asia and for pictures, one for all others.
std::size_t width_of(std::string_view text) {
  std::size_t width = 0;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte & 0xC0) == 0x80) continue;
    width += (byte >= 0xE3 && byte <= 0xED) || byte == 0xF0 ? 2 : 1;
  }
  return width;
}

std::vector<std::string> wrapped(std::string_view text, std::size_t width) {
  std::vector<std::string> lines(1);
  while (!text.empty()) {
    const auto space = text.find(' ');
    const std::string_view word = text.substr(0, space);
    text.remove_prefix(space == std::string_view::npos ? text.size() : space + 1);
    if (!lines.back().empty() && width_of(lines.back()) + 1 + width_of(word) > width) lines.emplace_back();
    if (!lines.back().empty()) lines.back() += ' ';
    lines.back() += word;
  }
  return lines;
}

}  // namespace

std::string shape_text(const Info& info) {
  if (info.text) return "text";
  std::string out(name_of(info.dtype));
  out += " [";
  for (int i = 0; i < info.shape.rank(); ++i) {
    if (i > 0) out += ", ";
    if (static_cast<std::size_t>(i) < info.axes.size()) out += fmt::format("{} ", info.axes[static_cast<std::size_t>(i)]);
    out += fmt::format("{}{}", info.varies(i) ? "~" : "", info.shape[i]);
  }
  return out + "]";
}

std::string cause_text(const Failed& failed) { return failed.why.starts_with(failed.where + ": ") ? failed.why : failed.where + ": " + failed.why; }

std::string shown_name(const std::string& name) { return is_printable(name) ? name : in_quotes(name); }

int terminal_width() {
  winsize size{};
  if (::isatty(STDOUT_FILENO) == 1 && ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 40) return size.ws_col;
  return 100;
}

std::string columns(const std::vector<std::vector<std::string>>& rows, int indent, int width) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows)
    for (std::size_t i = 0; i + 1 < row.size(); ++i) {
      if (widths.size() <= i) widths.resize(i + 1);
      widths[i] = std::max(widths[i], width_of(row[i]));
    }
  std::string out;
  for (const auto& row : rows) {
    std::string line(static_cast<std::size_t>(indent), ' ');
    for (std::size_t i = 0; i + 1 < row.size(); ++i) line += row[i] + std::string(widths[i] - width_of(row[i]) + 2, ' ');
    const std::size_t taken = width_of(line);
    const std::size_t rest = std::max<std::size_t>(30, static_cast<std::size_t>(width) > taken ? static_cast<std::size_t>(width) - taken : 0);
    bool first = true;
    for (const auto& part : wrapped(row.back(), rest)) {
      out += first ? line : std::string(taken, ' ');
      out += part;
      while (!out.empty() && out.back() == ' ') out.pop_back();
      out += '\n';
      first = false;
    }
  }
  return out;
}

}  // namespace sluice::app
