// EventWriter: TensorBoard event files, written by hand: TFRecord framing around protobuf messages (tensorflow/core/util/event.proto,
// framework/summary.proto). The tests read them with the real `tensorboard` package.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

class EventWriter {
 public:
  // Starts a new file in the folder, named to sort after those that are there. After a resume TensorBoard drops what earlier files
  // say about steps >= purge_step. Throws Error(Code::io).
  EventWriter(const std::filesystem::path& folder, std::optional<std::int64_t> purge_step);
  EventWriter(EventWriter&& other) noexcept;
  EventWriter& operator=(EventWriter&&) = delete;
  ~EventWriter();

  void scalar(std::string_view tag, std::int64_t step, double value);  // stored as a 32-bit float, as TensorBoard does
  void text(std::string_view tag, std::int64_t step, std::string_view markdown);
  void image(std::string_view tag, std::int64_t step, std::string_view png, std::int64_t width, std::int64_t height);
  // Events are gathered and written here; also at 64 KiB.
  void flush();
  [[nodiscard]] const std::filesystem::path& file() const { return file_; }

 private:
  void event(std::int64_t step, std::string_view what);
  std::filesystem::path file_;
  int fd_ = -1;
  std::string pending_;
};

}  // namespace sluice
