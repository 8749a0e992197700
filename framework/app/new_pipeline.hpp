// `sluice new pipeline`: looks at videos and writes a pipeline that trains on them.
#pragma once

#include <filesystem>
#include <string>

namespace sluice::app {

struct NewPipeline {
  std::string data;  // folder or list
  std::string out;   // empty: named after the data, in the working directory
  double split = 0.8;
  std::int64_t split_seed = 0;
  std::int64_t workers = 2;
  bool force = false;
};

void write_new_pipeline(const NewPipeline& request);

}  // namespace sluice::app
