// What a run that ran out of memory advises, as a person would read it.
#pragma once

#include <algorithm>
#include <regex>
#include <string>
#include <vector>

namespace sluice::testing {

struct Advice {
  std::string key, value;
};

// `key = value` of the hint, in its order.
inline std::vector<Advice> advice_of(const std::string& error) {
  std::vector<Advice> found;
  const std::regex form(R"re((?:write|; or) ([a-z_.]+) = ("[^"]*"|[^ ]+) \()re");
  const auto hint = error.substr(std::min(error.size(), error.find("hint: ")));
  for (std::sregex_iterator at(hint.begin(), hint.end(), form), end; at != end; ++at) found.push_back({(*at)[1], (*at)[2]});
  return found;
}

}  // namespace sluice::testing
