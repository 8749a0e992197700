// The keys of a plugin's table against its manifest: type, range, choices, what is required, nested plugins. Runs no plugin.
#pragma once

#include <string>
#include <vector>

#include "framework/config/catalogue.hpp"
#include "framework/config/pipeline.hpp"
#include "framework/config/problems.hpp"

namespace sluice {

struct PluginTable {
  std::string path;   // how messages call the table: "optimizer", "model.backbone", "stage 2"
  Place place;        // where problems without a better place are reported
  Table keys;         // without the host's; with `plugin`
  bool required = true;  // a plugin must be named
  std::vector<std::string> host_keys{};  // the host's keys of the same section, for suggestions
};

// Checks the keys and gives them as the recipe wants them: paths absolute, a part as a table with a `plugin`, whole numbers
// as such. Keys of an earlier layer that a plugin named in a later one does not have are dropped, and `notices` says so.
[[nodiscard]] PluginConfig read_plugin(const PluginTable& table, const std::vector<abi::Kind>& kinds, const Catalogue& catalogue,
                                       Problems& problems, std::vector<std::string>& notices);

// The defaults of a manifest's field, as they would stand in the file; nothing for a field without one.
[[nodiscard]] std::optional<Value> default_of(const abi::FieldRecord& field);
// "number, 0 to 1", "one of nearest|bilinear", "list of numbers"... for messages, inspect and the reference.
[[nodiscard]] std::string type_text(const abi::FieldRecord& field);

}  // namespace sluice
