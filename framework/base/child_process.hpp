// Another program at work beside this one: what it writes comes line by line, and it ends when the object goes.
//
//   ChildProcess child({.program = "/proc/self/exe", .arguments = {"measure-plan", "pipeline.toml"}});
//   while (child.open())
//     if (const auto line = child.line(0.5)) use(*line);
//   const ChildProcess::End end = child.end();
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

namespace sluice {

class ChildProcess {
 public:
  struct Options {
    std::filesystem::path program;
    std::vector<std::string> arguments{};
    std::string input{};       // its standard input
    bool keep_errors = false;  // its standard error, for errors(); otherwise nobody reads it
  };
  // No error where it cannot be started: then there is no line, and it ended with the code 127.
  explicit ChildProcess(const Options& options);
  ~ChildProcess();  // kills it
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  // The next line of its standard output; nothing where it ended, or was silent for so long.
  [[nodiscard]] std::optional<std::string> line(double seconds);
  // Whether more lines may come.
  [[nodiscard]] bool open() const { return output_ >= 0; }

  struct End {
    int code = -1;   // -1: a signal ended it
    int signal = 0;
  };
  // Of a child whose output is closed; one that goes on nevertheless is killed after a few seconds.
  [[nodiscard]] End end();
  void kill();
  // What it wrote to standard error so far.
  [[nodiscard]] std::string errors() const;

 private:
  void start(const Options& options);
  pid_t pid_ = -1;
  int output_ = -1, errors_ = -1;
  std::string text_;
  std::optional<End> end_;
};

// Called by a child first of all: it is killed when the thread that started it ends, also where that was killed itself.
void end_with_parent();

}  // namespace sluice
