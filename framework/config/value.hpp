// Values of a pipeline file that remember where they stood.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace sluice {

// file:line:column of a value, or "command line" with the override's text (line 0). Columns count characters from 1.
struct Place {
  std::string file;
  int line = 0;
  int column = 0;
  int layer = 0;  // 0: the file at the bottom of `extends`; later layers have higher numbers, the command line the highest
  [[nodiscard]] std::string text() const {
    return line == 0 ? file : file + ":" + std::to_string(line) + ":" + std::to_string(column);
  }
};

template <class T> struct Placed {
  T value{};
  Place place{};
  bool given = false;  // false: the default
};

struct Value;
struct Member;
using List = std::vector<Value>;
using Table = std::vector<Member>;  // in the order of the file; later layers replace members in place

struct Value {
  std::variant<bool, std::int64_t, double, std::string, List, Table> data;
  Place place;
};

struct Member {
  std::string key;
  Place place;  // of the key
  Value value;
};

}  // namespace sluice
