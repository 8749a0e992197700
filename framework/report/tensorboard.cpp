// Event files: TFRecord frames {length, masked crc32c of it, message, masked crc32c of it} around Event messages. The few protobuf fields
// needed are encoded by hand: a protobuf library would be one more to clash with the one inside LibTorch.
#include "framework/report/tensorboard.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <sluice/error.hpp>

#include "framework/state/files.hpp"

namespace sluice {
namespace {

constexpr std::string_view prefix = "events.out.tfevents.";
constexpr std::size_t gather_bytes = 64 << 10;

// CRC-32C (Castagnoli, RFC 3720), reflected.
constexpr auto crc_table = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? 0x82F63B78u : 0u);
    table[i] = value;
  }
  return table;
}();

std::uint32_t masked_crc(std::string_view bytes) {
  std::uint32_t crc = ~0u;
  for (const char byte : bytes) crc = crc >> 8 ^ crc_table[(crc ^ static_cast<unsigned char>(byte)) & 0xFF];
  return std::rotr(~crc, 15) + 0xA282EAD8u;
}

template <class T> void little_endian(std::string& out, T value) {
  for (std::size_t i = 0; i < sizeof value; ++i) out += static_cast<char>(value >> (8 * i) & 0xFF);
}

// A protobuf message in the making.
class Message {
 public:
  Message& integer(int field, std::int64_t value) {
    key(field, 0);
    varint(static_cast<std::uint64_t>(value));
    return *this;
  }
  Message& real(int field, double value) {
    key(field, 1);
    little_endian(bytes_, std::bit_cast<std::uint64_t>(value));
    return *this;
  }
  Message& real(int field, float value) {
    key(field, 5);
    little_endian(bytes_, std::bit_cast<std::uint32_t>(value));
    return *this;
  }
  Message& text(int field, std::string_view value) {
    key(field, 2);
    varint(value.size());
    bytes_ += value;
    return *this;
  }
  Message& message(int field, const Message& value) { return text(field, value.bytes_); }
  [[nodiscard]] const std::string& bytes() const { return bytes_; }

 private:
  void key(int field, int type) { varint(static_cast<std::uint64_t>(field << 3 | type)); }
  void varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }
  std::string bytes_;
};

Message event_at(std::int64_t step) {
  const auto now = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  return Message().real(1, now).integer(2, step);
}

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0 || name[0] == 0) return "host";
  std::string text = name.data();
  std::replace(text.begin(), text.end(), '/', '-');
  return text;
}

// Names are read in order: the seconds in a new one must be later than in all that are there, whatever the clock says.
std::string next_name(const std::filesystem::path& folder) {
  static std::atomic<int> number{0};
  auto seconds = std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  for (const auto& name : list_folder(system_disk(), folder)) {
    if (!name.starts_with(prefix)) continue;
    std::int64_t there = 0;
    std::from_chars(name.data() + prefix.size(), name.data() + name.size(), there);
    if (there < 10'000'000'000) seconds = std::max(seconds, there + 1);
  }
  return fmt::format("{}{:010}.{}.{}.{}", prefix, seconds, host_name(), ::getpid(), number++);
}

}  // namespace

EventWriter::EventWriter(const std::filesystem::path& folder, std::optional<std::int64_t> purge_step) {
  make_folders(system_disk(), folder);
  file_ = folder / next_name(folder);
  fd_ = ::open(file_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd_ < 0) throw Error(Code::io, fmt::format("cannot make the event file: {}", std::strerror(errno)), "check the permissions of the folder", file_.string());
  event(0, Message().text(3, "brain.Event:2").bytes());
  if (purge_step) event(*purge_step, Message().message(7, Message().integer(1, 1)).bytes());  // SessionLog.START
  flush();
}

EventWriter::EventWriter(EventWriter&& other) noexcept
    : file_(std::move(other.file_)), fd_(std::exchange(other.fd_, -1)), pending_(std::move(other.pending_)) {}

EventWriter::~EventWriter() {
  if (fd_ < 0) return;
  try {
    flush();
  } catch (const Error&) {
    // Whoever needs to know calls flush().
  }
  ::close(fd_);
}

void EventWriter::event(std::int64_t step, std::string_view what) {
  std::string record = event_at(step).bytes();
  record += what;
  std::string length;
  little_endian(length, static_cast<std::uint64_t>(record.size()));
  pending_ += length;
  little_endian(pending_, masked_crc(length));
  pending_ += record;
  little_endian(pending_, masked_crc(record));
  if (pending_.size() >= gather_bytes) flush();
}

void EventWriter::scalar(std::string_view tag, std::int64_t step, double value) {
  const auto entry = Message().text(1, tag).real(2, static_cast<float>(value));
  event(step, Message().message(5, Message().message(1, entry)).bytes());
}

void EventWriter::text(std::string_view tag, std::int64_t step, std::string_view markdown) {
  constexpr int string_type = 7;
  const auto metadata = Message().message(1, Message().text(1, "text"));
  const auto tensor = Message().integer(1, string_type).message(2, Message().message(2, Message().integer(1, 1))).text(8, markdown);
  const auto entry = Message().text(1, fmt::format("{}/text_summary", tag)).message(9, metadata).message(8, tensor);
  event(step, Message().message(5, Message().message(1, entry)).bytes());
}

void EventWriter::image(std::string_view tag, std::int64_t step, std::string_view png, std::int64_t width, std::int64_t height) {
  constexpr int rgb = 3;
  const auto picture = Message().integer(1, height).integer(2, width).integer(3, rgb).text(4, png);
  const auto entry = Message().text(1, tag).message(4, picture);
  event(step, Message().message(5, Message().message(1, entry)).bytes());
}

void EventWriter::flush() {
  std::string_view left = pending_;
  while (!left.empty()) {
    const auto count = ::write(fd_, left.data(), left.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      const int error = errno;
      pending_.clear();
      throw Error(Code::io, fmt::format("cannot append {} bytes: {}", left.size(), std::strerror(error)),
                  error == ENOSPC || error == EDQUOT ? "free some space or choose another run.dir; a resume goes on from the last checkpoint" : "", file_.string());
    }
    left.remove_prefix(static_cast<std::size_t>(count));
  }
  pending_.clear();
}

}  // namespace sluice
