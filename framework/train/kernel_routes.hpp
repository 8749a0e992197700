// The one place where a convolution or norm in reduced precision is sent around a kernel that is not trusted, whatever plugin calls it.
// In every type, convolutions over few positions are done as products where that takes less memory and time (convolution_products.hpp).
//
//   KernelRoutes::instance().trust({{call, KernelRoutes::everything}});
//
// A convolution that nobody checked is computed in fp32, its results rounded: slower, and right. docs/decisions/0010-kernels.md
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "framework/train/kernel_call.hpp"

namespace sluice {

class KernelRoutes {
 public:
  // What of a kernel may be used as it is. The weight gradient of a convolution has a second way before fp32: matrix products.
  struct Trust {
    bool output = false;
    bool input_gradient = false;
    bool weight_gradient = false;
    bool products = false;
    friend bool operator==(const Trust&, const Trust&) = default;
  };
  static constexpr Trust everything{true, true, true, true};

  static KernelRoutes& instance();

  // In place of what was trusted before.
  void trust(std::unordered_map<std::string, Trust> by_call);
  // Every kernel as the library has it: for checking them, and for tests of the check.
  void trust_all(bool all);

  [[nodiscard]] Trust of(const KernelCall& call) const;

 private:
  using Table = std::unordered_map<std::string, Trust>;
  mutable std::mutex mutex_;
  std::shared_ptr<const Table> table_ = std::make_shared<const Table>();
  bool all_ = false;
};

}  // namespace sluice
