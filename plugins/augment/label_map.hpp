// What becomes of a class when its clip is mirrored, turned upside down or played backwards: left becomes right.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <sluice/plugin.hpp>
#include <sluice/sample.hpp>

namespace sluice {

class LabelMap {
 public:
  // Doing it twice gives the clip back, so it must give the class back: a -> b needs b -> a. Throws Code::configuration.
  static void check(const StringMap& names) {
    for (std::size_t i = 0; i < names.items.size(); ++i) {
      const auto& [from, to] = names.items[i];
      for (std::size_t k = 0; k < i; ++k)
        if (names.items[k].first == from) throw Error(Code::configuration, "label_map has '" + from + "' twice");
      const Text* back = names.find(to);
      if (!back || !(*back == from))
        throw Error(Code::configuration, "label_map has " + from + " = \"" + to + "\" but not " + to + " = \"" + from + "\"",
                    "doing it twice gives the clip back, so it must give the class back: add " + to + " = \"" + from + "\"");
    }
  }

  // Throws Code::configuration when the source has no class of a name.
  void prepare(const StringMap& names, const Context& context) {
    to_.clear();
    if (names.items.empty()) return;
    to_.resize(context.classes().size());
    for (std::size_t i = 0; i < to_.size(); ++i) to_[i] = static_cast<std::int64_t>(i);
    for (const auto& [from, to] : names.items) to_[static_cast<std::size_t>(context.class_number(from))] = context.class_number(to);
  }

  // Maps the label of the sample; a sample without one (-1) stays so. Without a map nothing is read.
  void apply(Sample& sample) const {
    if (to_.empty()) return;
    auto label = sample.take("label");
    for (auto& number : label.values<std::int64_t>()) {
      if (number >= static_cast<std::int64_t>(to_.size()))
        throw Error(Code::data, "the label " + std::to_string(number) + " is none of the " + std::to_string(to_.size()) + " classes");
      if (number >= 0) number = to_[static_cast<std::size_t>(number)];
    }
    sample.put("label", std::move(label));
  }

 private:
  std::vector<std::int64_t> to_;  // class to class; empty: nothing is mapped
};

}  // namespace sluice
