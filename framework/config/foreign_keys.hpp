// Keys that people know from other trainers, and what sluice calls the same thing.
#pragma once

#include <string>
#include <string_view>

#include "framework/config/value.hpp"

namespace sluice {

// What to write instead of `key`, empty when nothing is known about it. `value` may be null.
[[nodiscard]] std::string foreign_key_hint(std::string_view key, const Value* value);
// The same for a section ([trainer], [dataset]...), and for a plugin's name (augment.normalize...).
[[nodiscard]] std::string foreign_section_hint(std::string_view section);
[[nodiscard]] std::string foreign_plugin_hint(std::string_view plugin);
// What precision = 16, "16-mixed", "bf16-mixed", "float16"... is called here: fp32, bf16, fp16; empty when unknown.
[[nodiscard]] std::string precision_named(std::string_view text);

}  // namespace sluice
