// RunLock: one run a folder. The kernel drops the lock when its process ends, however it ends, so none goes stale.
#pragma once

#include <filesystem>

namespace sluice {

class RunLock {
 public:
  // Makes the folder. Throws Error(Code::configuration) naming the process, host and time of whoever holds it.
  explicit RunLock(const std::filesystem::path& run_dir);
  RunLock(RunLock&& other) noexcept;
  RunLock& operator=(RunLock&&) = delete;
  ~RunLock();

 private:
  int fd_ = -1;
};

}  // namespace sluice
