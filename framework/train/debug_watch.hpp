// --debug: looks at every operation, and remembers what explains a failure: an index outside of its range and operands that do not fit,
// before it runs; the first output that was not finite; the operation that was begun last; each with its segment.
//
//   DebugWatch watch;                 // one a process
//   options.observer = &watch;        // of a Step: it tells the segments
//   watch.begin();  step.run(...);    watch.first_not_finite();
//
// Slow: every output is read again.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include <ATen/record_function.h>

#include "framework/train/checkpointed_segment.hpp"

namespace sluice {

class DebugWatch final : public SegmentObserver {
 public:
  DebugWatch();
  ~DebugWatch();
  DebugWatch(const DebugWatch&) = delete;
  DebugWatch& operator=(const DebugWatch&) = delete;

  // Forgets what was seen.
  void begin();
  // "convolution of segment layer3#2, forward, gave bf16 [2x256x2x14x14] with 12 values that are not finite"; empty where all were.
  [[nodiscard]] std::string first_not_finite() const;
  // "embedding (segment head, forward): index 12 of 10, which are 0 to 9"; empty where all were in range. An error also where the
  // operation went on: what it made of it is a wrong number.
  [[nodiscard]] std::string out_of_range() const;
  // "linear (segment head, forward): 24 features meet a weight for 16"; of the first, which then failed.
  [[nodiscard]] std::string mismatched() const;
  // What ran when an exception came: the operation, where, and what went in.
  [[nodiscard]] std::string last_operation() const;

  void begins(const std::string& path) override;
  void ends(const std::string& path, const std::vector<at::Tensor>& outputs) override;
  void saves_output(const std::string&) override {}
  void runs_again(const std::string& path, bool begins) override;
  void comes_back(const std::string&) override {}

 private:
  static std::unique_ptr<at::ObserverContext> started(const at::RecordFunction& function);
  static void ended(const at::RecordFunction& function, at::ObserverContext* context);
  void on_start(const at::RecordFunction& function);
  void on_end(const at::RecordFunction& function);
  [[nodiscard]] std::string place() const;

  mutable std::mutex mutex_;
  at::CallbackHandle handle_;
  std::vector<std::string> segments_;                 // those that are open
  std::map<std::int64_t, std::string> segment_of_;    // of an operation of the forward pass, by autograd's number
  std::string backward_of_;                           // the segment whose gradients are computed
  bool backward_ = false;
  std::string not_finite_, out_of_range_, mismatch_, last_;
};

}  // namespace sluice
