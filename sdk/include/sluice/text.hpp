// Text: a string whose literal default a compiler can read at compile time. Fields of type std::string could not have
// one under clang 14, and the manifest is made of these defaults.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sluice {

class Text {
 public:
  constexpr Text() = default;
  constexpr Text(const char* text) : Text(std::string_view(text)) {}
  constexpr Text(std::string_view text) : bytes_(text.begin(), text.end()) {}
  Text(const std::string& text) : Text(std::string_view(text)) {}

  [[nodiscard]] constexpr std::string_view view() const { return {bytes_.data(), bytes_.size()}; }
  constexpr operator std::string_view() const { return view(); }
  [[nodiscard]] std::string str() const { return std::string(view()); }
  [[nodiscard]] constexpr bool empty() const { return bytes_.empty(); }

  friend constexpr bool operator==(const Text& a, std::string_view b) { return a.view() == b; }
  friend constexpr bool operator==(const Text& a, const Text& b) { return a.view() == b.view(); }
  friend constexpr bool operator==(const Text& a, const char* b) { return a.view() == b; }
  friend std::string operator+(const Text& a, std::string_view b) { return a.str() + std::string(b); }
  friend std::string operator+(const std::string& a, const Text& b) { return a + b.str(); }

 private:
  std::vector<char> bytes_;
};

}  // namespace sluice
