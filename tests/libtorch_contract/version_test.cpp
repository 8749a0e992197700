// What the fingerprint of a plugin relies on: the version that headers declare is the one that is pinned.
#include <doctest/doctest.h>
#include <torch/version.h>

#include <fstream>
#include <string>

// Mistake caught: headers of one LibTorch (a system package) with the libraries of another.
TEST_CASE("the headers are those of the pinned LibTorch") {
  std::ifstream file(SLUICE_SOURCE_DIR "/cmake/libtorch.version");
  std::string line, pinned;
  while (std::getline(file, line))
    if (line.starts_with("version = ")) pinned = line.substr(10);
  CHECK(pinned == TORCH_VERSION);
}

// Mistake caught: a library with the old string layout links, and breaks at the first string that is passed.
TEST_CASE("the C++ library's new string layout is in use") { CHECK(_GLIBCXX_USE_CXX11_ABI == 1); }
