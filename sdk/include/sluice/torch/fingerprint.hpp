// What must be equal between the host and a plugin of the training half: their C++ types cross the boundary as they are.
#pragma once

#include <string_view>

#include <torch/version.h>

#include <sluice/manifest.hpp>

#define SLUICE_TEXT_(x) #x
#define SLUICE_TEXT(x) SLUICE_TEXT_(x)

#ifdef NDEBUG
#define SLUICE_NDEBUG_ "1"
#else
#define SLUICE_NDEBUG_ "0"
#endif

namespace sluice {

// key=value pairs, each compared on its own so that a mismatch can be named. `ndebug`: the layout of LibTorch's RecordFunction
// depends on it. `cxx11abi`: std::string and std::list.
inline constexpr std::string_view fingerprint = "training=1;sdk=0.1.0;torch=" TORCH_VERSION
    ";cxx11abi=" SLUICE_TEXT(_GLIBCXX_USE_CXX11_ABI) ";ndebug=" SLUICE_NDEBUG_;

}  // namespace sluice
