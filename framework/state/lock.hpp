// RunLock: one run a folder, also where folders are renamed meanwhile. The kernel drops the lock when its process ends, however it ends, so none goes stale.
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

  // Throws Error(Code::io) where another folder has taken the name of the one that was locked: what is written by name would go there.
  void check() const;

 private:
  std::filesystem::path run_dir_;
  int fd_ = -1;
};

}  // namespace sluice
