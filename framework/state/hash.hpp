// xxh3-128 of bytes that come in pieces. Finds damage; it is no protection against someone who forges.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace sluice {

class Hash {
 public:
  Hash();
  ~Hash();
  Hash(Hash&&) noexcept;
  Hash& operator=(Hash&&) noexcept;

  void add(std::span<const std::byte> bytes);
  [[nodiscard]] std::string hex() const;  // 32 digits

 private:
  struct State;
  std::unique_ptr<State> state_;
};

[[nodiscard]] std::string hash_of(std::string_view text);

}  // namespace sluice
