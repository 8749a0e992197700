// Every key of the host, declared once: name, type, range, default, help. Reading and checking, the file that a run writes
// down, the reference page and the schema are visitors of this declaration.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <sluice/abi.hpp>

#include "framework/config/pipeline.hpp"

namespace sluice {

struct WholeRule {
  std::int64_t min = 0;
  std::int64_t max = std::numeric_limits<std::int64_t>::max();
  std::string_view zero{};  // a word that stands for 0, e.g. "auto"; then 0 itself is refused unless min is 0
};
struct RealRule {
  double min = 0;
  double max = std::numeric_limits<double>::max();
  bool open_min = false;
};
struct BytesRule {
  std::uint64_t min = 0;
  std::string_view zero = "auto";
};
struct TextRule {
  std::string_view choices{};                          // a|b|c; empty: any
  std::string (*problem)(const std::string&) = nullptr;  // empty: the text is right
  std::string_view what = "text";                      // for the reference
};

class KeyVisitor {
 public:
  virtual ~KeyVisitor() = default;

  // A [section], or a table in one. False: absent and may be; then neither keys nor end() follow. `there` says whether the
  // pipeline has it, for visitors that write.
  enum class Presence { always, optional };
  virtual bool begin(std::string_view name, std::string_view help, Presence presence, bool there) = 0;
  virtual void end() = 0;
  // A [[list of tables]]: how many; then begin_item(i) ... end() for each.
  virtual std::size_t items(std::string_view name, std::string_view help, std::size_t size) = 0;
  virtual void begin_item(std::size_t i) = 0;

  // The plugin of the section, with all keys that are not the host's. `kinds` are allowed.
  virtual void plugin(PluginConfig& plugin, const std::vector<abi::Kind>& kinds) = 0;

  virtual void key(std::string_view name, Placed<bool>& value, std::string_view help) = 0;
  virtual void key(std::string_view name, Placed<std::int64_t>& value, std::string_view help, WholeRule rule) = 0;
  virtual void key(std::string_view name, Placed<double>& value, std::string_view help, RealRule rule) = 0;
  virtual void key(std::string_view name, Placed<std::uint64_t>& value, std::string_view help, BytesRule rule) = 0;
  virtual void key(std::string_view name, Placed<std::string>& value, std::string_view help, TextRule rule = {}) = 0;
  virtual void key(std::string_view name, Placed<Precision>& value, std::string_view help) = 0;
  virtual void key(std::string_view name, Placed<std::filesystem::path>& value, std::string_view help) = 0;
  virtual void key(std::string_view name, std::optional<Placed<std::filesystem::path>>& value, std::string_view help) = 0;
  virtual void key(std::string_view name, std::vector<std::string>& value, std::string_view help) = 0;          // text, or a list of it
  virtual void key(std::string_view name, std::vector<double>& value, std::string_view help, RealRule rule) = 0;
  virtual void key(std::string_view name, std::vector<std::filesystem::path>& value, std::string_view help) = 0;
  virtual void key(std::string_view name, std::string& value, std::string_view help, TextRule rule = {}) = 0;
  virtual void key(std::string_view name, bool& value, std::string_view help) = 0;
  virtual void key(std::string_view name, BatchNormConfig& value, std::string_view help) = 0;
  virtual void key(std::string_view name, SegmentChoice& value, std::string_view help) = 0;
  // A table whose keys the host does not fix.
  virtual void free_keys(std::map<std::string, std::string>& values, std::string_view help) = 0;
};

// Walks the whole pipeline.
void visit_pipeline(KeyVisitor& visitor, Pipeline& pipeline);

}  // namespace sluice
