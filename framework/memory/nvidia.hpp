// NVIDIA's cards as their driver's own library reports them: names, memory, who holds it. No CUDA toolkit and no LibTorch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sluice {

struct NvidiaCard {
  std::string name;
  int major = 0, minor = 0;         // compute capability; 0.0: unknown
  std::uint64_t total = 0, free = 0;  // bytes
  struct User {
    std::int64_t pid = 0;
    std::uint64_t bytes = 0;  // 0: the driver does not tell
  };
  std::vector<User> users{};  // other processes that compute on it
};

struct NvidiaReport {
  std::string driver{};   // its version; empty: no driver that answers
  std::string problem{};  // why not
  std::vector<NvidiaCard> cards{};  // as the driver numbers them, whatever CUDA_VISIBLE_DEVICES says
};
// Loads libnvidia-ml.so.1 where there is one and asks it. Throws nothing.
[[nodiscard]] NvidiaReport read_nvidia();

}  // namespace sluice
