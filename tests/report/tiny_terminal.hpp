// A pseudo-terminal and just enough of a terminal behind it to see what a person sees: text, carriage return, newline, erase to the end of
// the line. Anything else that arrives is remembered as a fault, and so is a line that runs over the right margin.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "framework/report/console.hpp"

namespace sluice::testing {

class TinyTerminal {
 public:
  explicit TinyTerminal(int width) : width_(width) {
    winsize size{24, static_cast<unsigned short>(width), 0, 0};
    if (::openpty(&outer_, &inner_, nullptr, nullptr, &size) != 0) outer_ = inner_ = -1;
  }
  ~TinyTerminal() {
    ::close(outer_);
    if (inner_ >= 0) ::close(inner_);
  }
  TinyTerminal(const TinyTerminal&) = delete;
  TinyTerminal& operator=(const TinyTerminal&) = delete;

  [[nodiscard]] int fd() const { return inner_; }
  void resize(int width) {
    width_ = width;
    const winsize size{24, static_cast<unsigned short>(width), 0, 0};
    ::ioctl(outer_, TIOCSWINSZ, &size);
  }

  // Takes in what was written so far.
  void read() {
    char bytes[4096];
    pollfd ready{outer_, POLLIN, 0};
    while (::poll(&ready, 1, 5) > 0 && (ready.revents & POLLIN)) {
      const auto count = ::read(outer_, bytes, sizeof bytes);
      if (count <= 0) break;
      raw_.append(bytes, static_cast<std::size_t>(count));
      pending_.append(bytes, static_cast<std::size_t>(count));
    }
    play();
  }
  // Lines that are finished, and the one with the cursor.
  [[nodiscard]] const std::vector<std::string>& lines() const { return lines_; }
  [[nodiscard]] const std::string& current() const { return current_; }
  [[nodiscard]] bool cursor_at_start() const { return at_start_; }
  [[nodiscard]] const std::vector<std::string>& faults() const { return faults_; }
  [[nodiscard]] const std::string& raw() const { return raw_; }
  [[nodiscard]] int redraws() const { return redraws_; }

 private:
  void play() {
    std::size_t i = 0;
    for (; i < pending_.size(); ++i) {
      const char byte = pending_[i];
      if (byte == '\r') {
        at_start_ = true;
      } else if (byte == '\n') {
        lines_.push_back(current_);
        current_.clear();
        at_start_ = true;
      } else if (byte == '\x1b') {
        if (pending_.size() - i < 3) break;
        if (pending_.compare(i, 3, "\x1b[K") != 0) faults_.push_back("escape code " + pending_.substr(i + 1, 6));
        else if (at_start_) current_.clear(), ++redraws_;
        i += 2;
      } else if (static_cast<unsigned char>(byte) < 0x20) {
        faults_.push_back("control character " + std::to_string(byte));
      } else {
        if (at_start_ && !current_.empty()) faults_.push_back("written over: " + current_);
        at_start_ = false;
        current_ += byte;
        if ((static_cast<unsigned char>(byte) & 0xC0) != 0x80 && live_limit && columns_of(current_) >= width_) faults_.push_back("reaches the margin: " + current_);
      }
    }
    pending_.erase(0, i);
  }

 public:
  bool live_limit = true;  // whether a line that reaches the margin is a fault (whole lines of a table may wrap)

 private:
  int width_;
  int outer_ = -1, inner_ = -1;
  std::string raw_, pending_, current_;
  std::vector<std::string> lines_, faults_;
  bool at_start_ = true;
  int redraws_ = 0;
};

}  // namespace sluice::testing
