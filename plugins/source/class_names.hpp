// Labels as a list has them, names or numbers, and the classes that they become.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <sluice/error.hpp>

namespace sluice {

// Either the classes are given, in their order, and a label is one of their names or, where it is none, its number; or the
// classes are all labels that were seen, sorted: by value where all are whole numbers, else by their bytes.
class ClassNames {
 public:
  explicit ClassNames(std::vector<std::string> given) : given_(std::move(given)) {
    for (std::size_t i = 0; i < given_.size(); ++i)
      if (std::find(given_.begin(), given_.begin() + static_cast<std::ptrdiff_t>(i), given_[i]) != given_.begin() + static_cast<std::ptrdiff_t>(i))
        throw Error(Code::configuration, "classes names '" + given_[i] + "' twice");
  }

  // The number of a label's text, the same for the same text.
  std::uint32_t seen(const std::string& label) {
    const auto [found, fresh] = texts_.try_emplace(label, static_cast<std::uint32_t>(order_.size()));
    if (fresh) {
      order_.push_back(label);
      numbers_.push_back(given_.empty() ? 0 : number_among_given(label));
    }
    return found->second;
  }
  // Whether a text that was seen is a class.
  [[nodiscard]] bool is_class(std::uint32_t text) const { return numbers_[text] >= 0; }
  // To be called once all labels were seen: now the classes stand.
  void settle() {
    if (given_.empty()) sort();
  }
  [[nodiscard]] std::int64_t number(std::uint32_t text) const { return numbers_[text]; }
  [[nodiscard]] std::vector<std::string> classes() const {
    if (!given_.empty()) return given_;
    std::vector<std::string> out(order_.size());
    for (std::size_t i = 0; i < order_.size(); ++i) out[static_cast<std::size_t>(numbers_[i])] = order_[i];
    return out;
  }
  // For messages: ": left, right, ..." of the classes given.
  [[nodiscard]] std::string some() const {
    std::string out;
    for (std::size_t i = 0; i < given_.size() && i < 20; ++i) out += (i ? ", " : ": ") + given_[i];
    return out + (given_.size() > 20 ? ", ..." : "");
  }

 private:
  static std::optional<std::int64_t> whole(std::string_view text) {
    std::int64_t value = 0;
    const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && rest == text.data() + text.size() ? std::optional(value) : std::nullopt;
  }
  [[nodiscard]] std::int64_t number_among_given(const std::string& label) const {
    const auto found = std::find(given_.begin(), given_.end(), label);
    if (found != given_.end()) return found - given_.begin();
    const auto value = whole(label);
    return value && *value >= 0 && *value < static_cast<std::int64_t>(given_.size()) ? *value : -1;
  }
  void sort() {
    std::vector<std::uint32_t> by_order(order_.size());
    for (std::uint32_t i = 0; i < by_order.size(); ++i) by_order[i] = i;
    const bool all_whole = std::all_of(order_.begin(), order_.end(), [](const auto& text) { return whole(text).has_value(); });
    std::sort(by_order.begin(), by_order.end(), [&](auto a, auto b) {
      if (all_whole && *whole(order_[a]) != *whole(order_[b])) return *whole(order_[a]) < *whole(order_[b]);
      return order_[a] < order_[b];
    });
    for (std::size_t i = 0; i < by_order.size(); ++i) numbers_[by_order[i]] = static_cast<std::int64_t>(i);
  }

  std::vector<std::string> given_;
  std::unordered_map<std::string, std::uint32_t> texts_;
  std::vector<std::string> order_;          // texts by number
  std::vector<std::int64_t> numbers_;       // class of each text; -1: none
};

}  // namespace sluice
