// Console: lines for a person. On a terminal one last line may be redrawn in place; elsewhere there are lines and nothing else.
#pragma once

#include <mutex>
#include <string>
#include <string_view>

namespace sluice {

// Columns that a UTF-8 text takes on a terminal once it is printable().
[[nodiscard]] int columns_of(std::string_view text);
// The text with '?' for control characters, invisible marks and bytes that are not UTF-8: no file name may drive a terminal.
[[nodiscard]] std::string printable(std::string_view text);
// At most `columns` wide, ends in "..." where it was cut.
[[nodiscard]] std::string fitted(std::string_view text, int columns);

// Thread-safe. Writing never throws: a terminal that went away ends the showing, not the run.
class Console {
 public:
  enum class Mode { automatic, plain, quiet };  // automatic: live on a terminal (TERM is not "dumb"), plain elsewhere
  explicit Console(int fd, Mode mode = Mode::automatic);
  ~Console();  // leaves the cursor at the start of an empty line
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  [[nodiscard]] bool live() const { return live_; }
  [[nodiscard]] bool quiet() const { return quiet_; }
  [[nodiscard]] int width() const;  // of the terminal now; 80 where it cannot be asked
  // One or more whole lines, above the live one.
  void print(std::string_view text);
  void print_also_when_quiet(std::string_view text);
  // The same on standard error, for warnings: also when quiet.
  void print_error(std::string_view text);
  // Redraws the live line, cut to the terminal's width; nothing where there is none.
  void show(std::string_view text);
  void clear();

 private:
  void write(int fd, std::string_view bytes);

  std::mutex mutex_;
  int fd_;
  bool live_ = false;
  bool quiet_ = false;
  bool gone_ = false;
  std::string shown_;  // the live line that stands there now
};

}  // namespace sluice
