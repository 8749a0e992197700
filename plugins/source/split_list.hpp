// Which samples of a list are for training and which for evaluation: by file, by group, or by a cut in time.
//
// The choice follows from the names in the list, the seed and nothing else: neither the order of the lines, nor the folder
// that the files are in, nor what other files there are in other classes.
#pragma once

#include <cstdint>
#include <vector>

namespace sluice {

struct SplitItem {
  std::uint64_t file = 0;   // hash of its key
  std::uint64_t unit = 0;   // hash of what stays together: the file, or the group
  std::int32_t label = -1;
  bool piece = false;
  double start = 0, end = 0;
};

// Whole units; `share` of the samples to training. Within each class, where every unit has one class only (rounded); else,
// or where rounding would leave evaluation empty, over all units. True: evaluation.
std::vector<bool> split_by_unit(const std::vector<SplitItem>& items, double share, std::uint64_t seed);

// Where each sample is cut in two: before it training, from it on evaluation, `share` of its length before it. Pieces of a
// file that overlap are cut at one place, so that no frame is on both sides. Whole files: the share itself, as a fraction.
// NaN: a piece of a file that is listed whole too, which cannot be cut.
std::vector<double> cuts_in_time(const std::vector<SplitItem>& items, double share, bool whole_numbers);

}  // namespace sluice
