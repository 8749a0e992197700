// Appends rows with O_APPEND, one write a row; cuts the file back to a step for a resume.
#include "framework/report/metrics_log.hpp"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <optional>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

#include <sluice/error.hpp>

#include "framework/base/strings.hpp"
#include "framework/state/files.hpp"

namespace sluice {
namespace {

std::string json_text(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::optional<std::int64_t> step_of(const std::string& line) {
  const auto row = nlohmann::json::parse(line, nullptr, false);
  if (!row.is_object()) return std::nullopt;
  const auto step = row.find("step");
  if (step == row.end() || !step->is_number_integer()) return std::nullopt;
  return step->get<std::int64_t>();
}

}  // namespace

JsonRow& JsonRow::member(std::string_view key, std::string_view json) {
  if (!members_.empty()) members_ += ',';
  members_ += json_text(key);
  members_ += ':';
  members_ += json;
  return *this;
}

JsonRow& JsonRow::add(std::string_view key, double value) {
  if (std::isnan(value)) return member(key, R"("NaN")");
  if (std::isinf(value)) return member(key, value > 0 ? R"("Infinity")" : R"("-Infinity")");
  return member(key, fmt::format("{}", value));
}
JsonRow& JsonRow::add(std::string_view key, std::int64_t value) { return member(key, fmt::format("{}", value)); }
JsonRow& JsonRow::add(std::string_view key, std::uint64_t value) { return member(key, fmt::format("{}", value)); }
JsonRow& JsonRow::add(std::string_view key, bool value) { return member(key, value ? "true" : "false"); }
JsonRow& JsonRow::add(std::string_view key, std::string_view value) { return member(key, json_text(value)); }
JsonRow& JsonRow::add(std::string_view key, const JsonRow& object) { return member(key, object.text()); }
JsonRow& JsonRow::add(std::string_view key, const std::vector<std::string>& values) {
  std::vector<std::string> texts;
  for (const auto& value : values) texts.push_back(json_text(value));
  return member(key, fmt::format("[{}]", fmt::join(texts, ",")));
}

MetricsLog::MetricsLog(std::filesystem::path file) : file_(std::move(file)) { open(); }

MetricsLog::MetricsLog(MetricsLog&& other) noexcept : file_(std::move(other.file_)), fd_(std::exchange(other.fd_, -1)) {}

MetricsLog::~MetricsLog() {
  if (fd_ >= 0) ::close(fd_);
}

void MetricsLog::open() {
  fd_ = ::open(file_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);  // a FIFO is not waited for
  if (fd_ < 0) throw Error(Code::io, fmt::format("cannot open the log: {}", std::strerror(errno)), "check the permissions of the folder", file_.string());
}

void MetricsLog::append(std::int64_t step, const JsonRow& row) {
  std::string line = fmt::format("{{\"step\":{}", step);
  const std::string members = row.text();
  if (members.size() > 2) line += ',';
  line.append(members, 1);
  line += '\n';

  struct stat before {};
  const bool known = ::fstat(fd_, &before) == 0 && S_ISREG(before.st_mode);
  if (known && before.st_nlink == 0)
    throw Error(Code::io, "the log was deleted while the run wrote it, and the run's folder maybe too", "give the command again: with --resume where a checkpoint is left, in a new run.dir else", file_.string());
  std::string_view left = line;
  while (!left.empty()) {
    const auto count = ::write(fd_, left.data(), left.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      const int error = errno;
      if (known && left.size() < line.size()) static_cast<void>(::ftruncate(fd_, before.st_size) == 0);
      throw Error(Code::io, fmt::format("cannot append {}: {}", counted(line.size(), "byte"), std::strerror(error)),
                  error == ENOSPC || error == EDQUOT ? "free some space or choose another run.dir; a resume goes on from the last checkpoint" : "", file_.string());
    }
    left.remove_prefix(static_cast<std::size_t>(count));
  }
}

void MetricsLog::sync() {
  if (::fdatasync(fd_) != 0 && errno != EINVAL && errno != EROFS)
    throw Error(Code::io, fmt::format("cannot make the log durable: {}", std::strerror(errno)), {}, file_.string());
}

std::int64_t MetricsLog::continue_from(std::int64_t step, const std::function<void(std::string_view row)>& kept) {
  std::filesystem::path beside = file_;
  beside += ".tmp";
  std::int64_t dropped = 0;
  {
    std::ifstream in(file_, std::ios::binary);
    OutputFile out(system_disk(), beside);
    std::string line, gathered;
    while (std::getline(in, line)) {
      const bool whole = !in.eof();  // getline() meets the end only in a line without its newline
      const auto at = whole ? step_of(line) : std::nullopt;
      if (!at || *at > step) {
        ++dropped;
        continue;
      }
      if (kept) kept(line);
      gathered += line;
      gathered += '\n';
      if (gathered.size() < (1 << 16)) continue;
      out.write(gathered);
      gathered.clear();
    }
    if (in.bad()) throw Error(Code::io, "cannot read the log", {}, file_.string());
    out.write(gathered);
    out.sync();
    out.close();
  }
  if (dropped == 0) {
    system_disk().unlink(beside.string());
    return 0;
  }
  rename_path(system_disk(), beside, file_);
  sync_folder(system_disk(), file_.has_parent_path() ? file_.parent_path() : ".");
  ::close(std::exchange(fd_, -1));
  open();
  return dropped;
}

}  // namespace sluice
