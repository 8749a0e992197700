// MetricsLog: one JSON object a line, appended and flushed row by row, so that a killed run loses no row and a resumed one repeats none.
//
//   MetricsLog log(run_dir / "metrics.jsonl");
//   log.continue_from(400);                                  // resume: rows of later steps go
//   log.append(401, JsonRow().add("kind", "step").add("loss", 0.25));
//
// Numbers are written with as few digits as give the same double back. JSON has no NaN: "NaN", "Infinity" and "-Infinity" are
// written as strings, which Python's float() reads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

// A JSON object, members in the order of add().
class JsonRow {
 public:
  JsonRow& add(std::string_view key, double value);
  JsonRow& add(std::string_view key, std::int64_t value);
  JsonRow& add(std::string_view key, std::uint64_t value);
  JsonRow& add(std::string_view key, bool value);
  JsonRow& add(std::string_view key, std::string_view value);  // bytes that are not UTF-8 become U+FFFD
  JsonRow& add(std::string_view key, const char* value) { return add(key, std::string_view(value)); }
  JsonRow& add(std::string_view key, const JsonRow& object);
  JsonRow& add(std::string_view key, const std::vector<std::string>& values);
  [[nodiscard]] std::string text() const { return "{" + members_ + "}"; }

 private:
  JsonRow& member(std::string_view key, std::string_view json);
  std::string members_;
};

class MetricsLog {
 public:
  // Opens for appending; makes the file where there is none. Throws Error(Code::io).
  explicit MetricsLog(std::filesystem::path file);
  MetricsLog(MetricsLog&& other) noexcept;
  MetricsLog& operator=(MetricsLog&&) = delete;
  ~MetricsLog();

  // Adds "step" in front and writes the row in one piece. On a full disk the file ends with the row before, and it throws.
  void append(std::int64_t step, const JsonRow& row);
  // Makes all rows durable. Call it before a checkpoint is saved: a resumed run counts on the rows up to its step.
  void sync();

  // Keeps the rows whose step is at most `step`, drops the others and whatever is no whole row (kill -9, lost power), in one atomic
  // replacement. `kept` sees each row that stays. Returns how many lines went.
  std::int64_t continue_from(std::int64_t step, const std::function<void(std::string_view row)>& kept = {});
  [[nodiscard]] const std::filesystem::path& file() const { return file_; }

 private:
  void open();
  std::filesystem::path file_;
  int fd_ = -1;
};

}  // namespace sluice
