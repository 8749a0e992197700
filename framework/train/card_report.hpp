// What a run tells that finds its card full: the lines of out_of_memory.hpp, as far as they can be had. A card has no ledger of ours, so the moment of the refusal
// is in LibTorch's words alone; its counters and the driver are asked afterwards, when the pass has let go of its tensors.
//
//   catch (const c10::OutOfMemoryError& error) {
//     const CardRefusal refusal = card_refusal(error, device);
//     throw Error(Code::configuration, "out of memory in step 3" + report_of(refusal), hint_of(refusal));
//   }
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <c10/core/Device.h>
#include <c10/util/Exception.h>

#include "framework/train/needs.hpp"
#include "framework/train/tensor_memory.hpp"

namespace sluice {

struct CardRefusal {
  std::string words{};  // LibTorch's
  TensorMemory::Counters tensors{};
  CardMemory card{};
  struct Other {
    std::int64_t pid = 0;
    std::string name{};       // empty: not to be seen from here
    std::uint64_t bytes = 0;  // 0: the driver does not tell
  };
  std::vector<Other> others{};
  std::uint64_t given = 0;  // bytes that budget.device_memory leaves the tensors
  TensorNeeds planned{};
};
// Asks the card's allocator and the driver; `given` and `planned` are the caller's. Throws c10::Error where the card is gone.
[[nodiscard]] CardRefusal card_refusal(const c10::OutOfMemoryError& error, at::Device device);

// Lines, each begun by a newline: requested, allocated, reserved, free, others; and LibTorch's words where the figures are not in them.
[[nodiscard]] std::string report_of(const CardRefusal& refusal);

// The device_memory with which the plan takes no more than there was for this process, and what else would help.
[[nodiscard]] std::string hint_of(const CardRefusal& refusal);

}  // namespace sluice
