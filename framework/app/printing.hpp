// How values are shown to people: shapes with their axes, columns that line up, paragraphs that fit a terminal.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <sluice/info.hpp>

#include "framework/flow/dataset.hpp"

namespace sluice::app {

// "uint8 [T 16, H 112, W 112, C 3]"; with `~` in front of an extent that varies.
[[nodiscard]] std::string shape_text(const Info& info);

// "place: cause"; the place once, where the cause names it too.
[[nodiscard]] std::string cause_text(const Failed& failed);

// As it is, where a terminal can show it; else quoted, with what it cannot show escaped.
[[nodiscard]] std::string shown_name(const std::string& name);

// Columns of the terminal, or 100 where there is none.
[[nodiscard]] int terminal_width();

// Rows with columns as wide as their widest cell; the last column is wrapped to the width.
[[nodiscard]] std::string columns(const std::vector<std::vector<std::string>>& rows, int indent, int width);

}  // namespace sluice::app
