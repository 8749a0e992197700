// WithParts: a network that is made of others may say so, and messages then name the layers inside of them.
//
//   class Recognizer : public sluice::Model, public sluice::WithParts {
//     std::vector<NamedPart> parts() override { return {{"", backbone_.get()}, {"fc", head_.get()}}; }
//   };
#pragma once

#include <string>
#include <vector>

#include <sluice/torch/network.hpp>

namespace sluice {

struct NamedPart {
  std::string prefix;  // of the names of its weights, without the dot; may be empty
  Network* network;    // owned by who tells of it; not null
};

class WithParts {
 public:
  virtual ~WithParts() = default;
  [[nodiscard]] virtual std::vector<NamedPart> parts() = 0;
};

}  // namespace sluice
