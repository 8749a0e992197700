// `sluice new stage`: a folder with a plugin that builds as it is.
#pragma once

#include <string>

namespace sluice::app {

struct NewStage {
  std::string name;  // kind.name, e.g. augment.blur
  std::string out;   // empty: a folder of that name in the working directory
};

void write_new_stage(const NewStage& request);

}  // namespace sluice::app
