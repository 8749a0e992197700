// malloc and its kin that count and, on demand, fail, for this program and the libraries in it. Included by one source of a program that is compiled
// with -fno-builtin, as its first header.
//
//   {
//     const FailingMalloc failing(n);    // the n-th allocation of this thread from here on finds no memory, once; of those of so many bytes
//     work();
//     failing.fired();
//   }
//   FailingMalloc::live();               // bytes that the program holds, with what malloc keeps beside them
//   FailingMalloc::reset_peak();
//   FailingMalloc::peak();               // the most that it held since
#pragma once

#include <malloc.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>

namespace sluice::testing {

class FailingMalloc {
 public:
  explicit FailingMalloc(std::int64_t n, std::size_t of_at_least = 0) {
    least() = of_at_least;
    left() = n;
  }
  ~FailingMalloc() { left() = 0; }
  FailingMalloc(const FailingMalloc&) = delete;
  FailingMalloc& operator=(const FailingMalloc&) = delete;
  [[nodiscard]] bool fired() const { return left() == 0; }
  [[nodiscard]] static long live() { return bytes(); }
  [[nodiscard]] static long peak() { return most(); }
  static void reset_peak() { most() = live(); }

  static bool fails(std::size_t size) { return left() > 0 && size >= least() && --left() == 0; }
  static void* taken(void* block) {
    if (!block) return block;
    const long now = bytes() += size_of(block);
    if (now > most()) most() = now;
    return block;
  }
  static void given(void* block) {
    if (block) bytes() -= size_of(block);
  }

 private:
  static long size_of(void* block) { return static_cast<long>(malloc_usable_size(block)) + 16; }
  static std::int64_t& left() {
    thread_local std::int64_t count = 0;
    return count;
  }
  static std::size_t& least() {
    thread_local std::size_t bytes = 0;
    return bytes;
  }
  static std::atomic<long>& bytes() {
    static constinit std::atomic<long> all = 0;
    return all;
  }
  static std::atomic<long>& most() {
    static constinit std::atomic<long> all = 0;
    return all;
  }
};

}  // namespace sluice::testing

// The C library's own names behind malloc.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);
void* malloc(std::size_t bytes) {
  using sluice::testing::FailingMalloc;
  if (FailingMalloc::fails(bytes)) return errno = ENOMEM, nullptr;
  return FailingMalloc::taken(__libc_malloc(bytes));
}
void* calloc(std::size_t count, std::size_t bytes) {
  using sluice::testing::FailingMalloc;
  if (FailingMalloc::fails(count * bytes)) return errno = ENOMEM, nullptr;
  return FailingMalloc::taken(__libc_calloc(count, bytes));
}
void* realloc(void* block, std::size_t bytes) {
  using sluice::testing::FailingMalloc;
  if (FailingMalloc::fails(bytes)) return errno = ENOMEM, nullptr;
  FailingMalloc::given(block);
  return FailingMalloc::taken(__libc_realloc(block, bytes));
}
void* memalign(std::size_t alignment, std::size_t bytes) {
  using sluice::testing::FailingMalloc;
  if (FailingMalloc::fails(bytes)) return errno = ENOMEM, nullptr;
  return FailingMalloc::taken(__libc_memalign(alignment, bytes));
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) { return memalign(alignment, bytes); }
int posix_memalign(void** block, std::size_t alignment, std::size_t bytes) {
  void* made = memalign(alignment, bytes);
  if (!made) return ENOMEM;
  *block = made;
  return 0;
}
void free(void* block) {
  sluice::testing::FailingMalloc::given(block);
  __libc_free(block);
}
}
