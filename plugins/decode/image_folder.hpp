// The pictures of a folder in the order that a person expects: frame2.png before frame10.png.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sluice::decode {

// Whether `a` comes before `b` when runs of digits count as numbers.
bool natural_less(std::string_view a, std::string_view b);

// Paths of the .jpg, .jpeg, .png and .bmp files in it, hidden ones left out. Throws Code::data for what is no folder that
// can be read, or holds none.
std::vector<std::string> pictures_in(const std::string& folder);

}  // namespace sluice::decode
