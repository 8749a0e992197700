// augment.resize: scales all frames of a clip.
#include <optional>

#include <sluice/stage.hpp>

#include "resize_frames.hpp"

namespace {

struct Resize {
  std::vector<std::int64_t> size;
  std::optional<std::int64_t> short_side;
  std::optional<std::int64_t> long_side;
  sluice::Text interpolation = "auto";

  static constexpr std::string_view help = "Scales all frames of a clip, to an exact size or keeping their shape.";
  static constexpr auto fields = sluice::fields(
      sluice::field(&Resize::size, "size", "exactly [height, width], whatever the shape was; or [n] for a square"),
      sluice::field(&Resize::short_side, "short_side", "pixels of the shorter side; the other follows (rounded down)", sluice::range(1, 16384)),
      sluice::field(&Resize::long_side, "long_side", "pixels of the longer side; with short_side: at most so many, where it would become longer", sluice::range(1, 16384)),
      sluice::field(&Resize::interpolation, "interpolation", sluice::interpolation_help, sluice::one_of(sluice::interpolations)));

  void check() const {
    const bool exact = !size.empty();
    if (exact) static_cast<void>(sluice::size_of(size));
    if (exact == (short_side || long_side))
      throw sluice::Error(sluice::Code::configuration, exact ? "size is given beside short_side or long_side" : "no size is given",
                          "give one: size = [112, 112], short_side = 128 or long_side = 256 (the last two also together)");
    if (short_side && long_side && *short_side > *long_side)
      throw sluice::Error(sluice::Code::configuration, "short_side = " + std::to_string(*short_side) + " is more than long_side = " + std::to_string(*long_side));
  }

  sluice::Info out(const sluice::Info& in) const {
    sluice::must_be_video(in);
    const auto from = sluice::size_of(in);
    if (!sluice::size_varies(in) || !size.empty()) {
      const auto to = target(from);
      auto info = sluice::with_size(in, to);
      info.scratch = sluice::resize_scratch(from, to, in.shape[3]);
      return info;
    }
    // The shape of the frames is not known beforehand, so neither is theirs after it: only a longest side bounds both.
    if (!long_side)
      throw sluice::Error(sluice::Code::configuration, "short_side alone has no bound here: an earlier stage gives frames of any shape", "set long_side too, or size");
    auto info = in;
    info.shape[1] = info.shape[2] = *long_side;
    info.varying |= 0b110;
    info.scratch = sluice::resize_scratch(from, {*long_side, *long_side}, in.shape[3]);
    return info;
  }

  sluice::Clip operator()(sluice::Clip clip, sluice::Rng&) const {
    const sluice::Size from{clip.height(), clip.width()};
    return sluice::resized(std::move(clip), {0, 0, from}, target(from), sluice::interpolation_of(interpolation));
  }

 private:
  // As torchvision's Resize(short_side, max_size = long_side) has it.
  [[nodiscard]] sluice::Size target(const sluice::Size& from) const {
    if (!size.empty()) return sluice::size_of(size);
    const auto shorter = std::max<std::int64_t>(1, std::min(from.height, from.width)), longer = std::max<std::int64_t>(1, std::max(from.height, from.width));
    auto to_short = short_side ? *short_side : *long_side * shorter / longer;
    auto to_long = short_side ? *short_side * longer / shorter : *long_side;
    if (long_side && to_long > *long_side) {
      to_short = *long_side * to_short / to_long;
      to_long = *long_side;
    }
    to_short = std::max<std::int64_t>(1, to_short);
    return from.height <= from.width ? sluice::Size{to_short, to_long} : sluice::Size{to_long, to_short};
  }
};
SLUICE_STAGE(Resize, "augment.resize");

}  // namespace
