// A sheet: samples of a pipeline, drawn after each of its stages.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include <sluice/source.hpp>

#include "framework/app/loaded.hpp"

namespace sluice::app {

struct SheetRequest {
  std::filesystem::path out;
  Split split = Split::train;
  std::vector<std::int64_t> samples{};  // empty: three spread over the split
  std::uint64_t epoch = 0;
  int frames = 8;    // of a clip, evenly spread, the first and the last among them
  int height = 112;  // of a frame in the picture
};

// Each sample is one block: a title with its label and file, then a row for every stage that changed a video stream: frames from left to
// right, with the stage's name and the shape. A stage is run by the real runtime, with the random numbers of training.
void draw_sheet(Loaded& loaded, const SheetRequest& request);

}  // namespace sluice::app
