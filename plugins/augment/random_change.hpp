// A change that undoes itself when done twice (a mirror, a reversal), done with chance p to every stream of a stage or to none.
#pragma once

#include <string_view>

#include <sluice/stage.hpp>

#include "label_map.hpp"

namespace sluice {

// Stage has `static void change(Clip&)`, and declares both fields with words of its own.
template <class Stage> struct RandomChange {
  double p = 0.5;
  StringMap label_map;

  static constexpr std::string_view reads = "*,label", writes = "*,label";

  void check() const { LabelMap::check(label_map); }
  void prepare(const Context& context) { labels.prepare(label_map, context); }

  void operator()(Sample& sample, Rng& rng) const {
    if (!rng.chance(p)) return;
    for (const auto stream : sample.on()) {
      auto clip = sample.take_clip(stream);
      Stage::change(clip);
      sample.put(stream, std::move(clip));
    }
    labels.apply(sample);
  }

  LabelMap labels{};
};

}  // namespace sluice
