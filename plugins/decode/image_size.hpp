// The size that an encoded picture declares, before memory is taken for it: JPEG, PNG, BMP.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "target_size.hpp"

namespace sluice::decode {

// As stored, before a turn that EXIF asks for. Nothing for other formats and for heads that are cut off.
std::optional<Size> image_size(std::span<const std::uint8_t> bytes);

}  // namespace sluice::decode
