// Runs the real `sluice` as a child, watches its memory and threads, and kills it where a test wants that.
//
//   const Finished run = run_sluice({"train", "pipeline.toml"}, folder);
//   CHECK(run.code == 0);
#pragma once

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace sluice::testing {

inline std::string text_of_file(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

struct Finished {
  int code = -1;    // exit code; -1 when a signal ended it
  int signal = 0;
  std::string out, err;
  double seconds = 0;
  // The most that was seen, looking every few milliseconds; the kernel keeps the peak between two looks.
  std::uint64_t peak_resident = 0;
  int most_threads = 0;
};

class SluiceProcess {
 public:
  // Output goes to out.txt and err.txt of `folder`, which is also where it runs. `cgroup`: a cgroup.procs file to enter first.
  SluiceProcess(std::vector<std::string> arguments, const std::filesystem::path& folder, const std::string& cgroup = {}) : folder_(folder) {
    std::vector<std::string> command = {(std::filesystem::path(SLUICE_BINARY_DIR) / "bin" / "sluice").string()};
    command.insert(command.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (auto& word : command) argv.push_back(word.data());
    argv.push_back(nullptr);
    child_ = fork();
    if (child_ == 0) {
      if (!cgroup.empty()) {
        const int file = open(cgroup.c_str(), O_WRONLY);
        if (file < 0 || write(file, "0", 1) != 1) _exit(99);
        close(file);
      }
      if (chdir(folder.c_str()) != 0) _exit(98);
      const int out = open("out.txt", O_WRONLY | O_CREAT | O_TRUNC, 0644), err = open("err.txt", O_WRONLY | O_CREAT | O_TRUNC, 0644);
      dup2(out, STDOUT_FILENO);
      dup2(err, STDERR_FILENO);
      for (const int signal : {SIGABRT, SIGSEGV, SIGTERM, SIGINT}) std::signal(signal, SIG_DFL);  // the test framework's own would stay
      execv(argv[0], argv.data());
      _exit(97);
    }
    if (child_ < 0) throw std::runtime_error("no process can be started");
    started_ = std::chrono::steady_clock::now();
  }
  ~SluiceProcess() {
    if (!ended_) {
      kill(SIGKILL);
      wait(10);
    }
  }
  SluiceProcess(const SluiceProcess&) = delete;
  SluiceProcess& operator=(const SluiceProcess&) = delete;

  [[nodiscard]] pid_t pid() const { return child_; }
  void kill(int signal) const { ::kill(child_, signal); }
  [[nodiscard]] double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count(); }

  // False once it has ended.
  bool look() {
    if (ended_) return false;
    int status = 0;
    if (waitpid(child_, &status, WNOHANG) == child_) {
      ended_ = true;
      finished_.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
      finished_.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
      finished_.seconds = seconds();
      return false;
    }
    std::ifstream file("/proc/" + std::to_string(child_) + "/status");
    for (std::string line; std::getline(file, line);) {
      if (line.starts_with("VmHWM:")) finished_.peak_resident = std::max<std::uint64_t>(finished_.peak_resident, std::stoull(line.substr(6)) * 1024);
      if (line.starts_with("Threads:")) finished_.most_threads = std::max(finished_.most_threads, std::stoi(line.substr(8)));
    }
    return true;
  }
  // Kills it when the time is over: then the signal says so.
  Finished wait(double timeout) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(timeout);
    while (look()) {
      if (std::chrono::steady_clock::now() > end) kill(SIGKILL);
      std::this_thread::sleep_for(std::chrono::milliseconds(3));
    }
    finished_.out = text_of_file(folder_ / "out.txt");
    finished_.err = text_of_file(folder_ / "err.txt");
    return finished_;
  }

 private:
  std::filesystem::path folder_;
  pid_t child_ = -1;
  std::chrono::steady_clock::time_point started_;
  bool ended_ = false;
  Finished finished_;
};

inline Finished run_sluice(std::vector<std::string> arguments, const std::filesystem::path& folder, double timeout = 300, const std::string& cgroup = {}) {
  return SluiceProcess(std::move(arguments), folder, cgroup).wait(timeout);
}

}  // namespace sluice::testing
