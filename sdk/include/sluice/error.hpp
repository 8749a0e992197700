// The one error type of sluice: what went wrong, where, and what to do next.
#pragma once

#include <exception>
#include <string>
#include <utility>

namespace sluice {

// What kind of failure it is; the value is the exit code of the command that it ends.
enum class Code : int {
  configuration = 2,  // the pipeline file, an override or a flag is wrong
  plugin = 3,         // a plugin cannot be loaded or broke its contract
  data = 4,           // a sample, a listing or a file of the user's data is bad
  io = 5,             // the disk, the network or a device failed
  watchdog = 6,       // nothing moved for longer than the deadline
  memory = 7,         // the system gave no memory; what is done can be gone on from
};

// Thrown by plugins and by the framework. `where` may be left empty: whoever catches it at a border
// (host call, configuration node) fills it with plugin, stage and sample or with file:line:column.
class Error : public std::exception {
 public:
  Error(Code code, std::string what, std::string hint = {}, std::string where = {})
      : code_(code), what_(std::move(what)), hint_(std::move(hint)), where_(std::move(where)) {
    compose();
  }

  [[nodiscard]] Code code() const noexcept { return code_; }
  [[nodiscard]] const std::string& message() const noexcept { return what_; }
  [[nodiscard]] const std::string& hint() const noexcept { return hint_; }
  [[nodiscard]] const std::string& where() const noexcept { return where_; }

  // The whole text: "where: what" and, on a line of its own, the hint.
  [[nodiscard]] const char* what() const noexcept override { return full_.c_str(); }

  // The same error with a place, for a border that knows more than the thrower did.
  [[nodiscard]] Error at(std::string where) const {
    return Error(code_, what_, hint_, where_.empty() ? std::move(where) : std::move(where) + ": " + where_);
  }

 private:
  void compose() {
    full_ = where_.empty() ? what_ : where_ + ": " + what_;
    if (!hint_.empty()) full_ += "\n  hint: " + hint_;
  }

  Code code_;
  std::string what_;
  std::string hint_;
  std::string where_;
  std::string full_;
};

}  // namespace sluice
