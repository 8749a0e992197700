// Where this sluice lies: the folder of libsluice.so, in a build folder as in an installation.
#pragma once

#include <filesystem>

namespace sluice {

// Holds libsluice.so, libsluice_train.so and sluice/plugins. Throws Error(Code::plugin) where the system does not tell.
[[nodiscard]] const std::filesystem::path& library_folder();

// The CMake package of this sluice, for a plugin built on its own: cmake -Dsluice_DIR=... . Empty when it is not there.
[[nodiscard]] std::filesystem::path cmake_package_folder();

}  // namespace sluice
