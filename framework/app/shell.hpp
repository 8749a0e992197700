// Commands that a person can copy.
#pragma once

#include <string>

namespace sluice::app {

// A path as a shell takes it for one word, quoted where it has to be, and no command for an option.
[[nodiscard]] inline std::string shell_word(const std::string& text) {
  if (text.starts_with('-')) return shell_word("./" + text);
  static constexpr char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,+@%";
  if (!text.empty() && text.find_first_not_of(plain) == std::string::npos) return text;
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

}  // namespace sluice::app
