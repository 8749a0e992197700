// What no input can make false. A broken invariant ends the process at once, before a wrong number spreads.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace sluice {

inline void invariant(bool holds, const char* what) noexcept {
  if (holds) [[likely]]
    return;
  std::fprintf(stderr, "sluice: broken invariant: %s\n", what);
  std::abort();
}

}  // namespace sluice
