// posix_spawn, since a process with threads and large memory must not be forked; all descriptors of ours are closed in the child.
#include "framework/base/child_process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

extern char** environ;

namespace sluice {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

// A file in memory that holds `text`, at its beginning; -1 where there is none.
int file_of(const std::string& text) {
  Descriptor file(::memfd_create("input", MFD_CLOEXEC));
  for (std::size_t at = 0; at < text.size();) {
    const auto count = ::write(file.get(), text.data() + at, text.size() - at);
    if (count < 0) return -1;
    at += static_cast<std::size_t>(count);
  }
  return ::lseek(file.get(), 0, SEEK_SET) == 0 ? file.release() : -1;
}

// What to open in the child, and signals as a program finds them when a shell starts it: ours may be blocked.
class SpawnSettings {
 public:
  SpawnSettings(int in, int out, int err) {
    posix_spawn_file_actions_init(&actions_);
    posix_spawn_file_actions_adddup2(&actions_, in, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions_, out, STDOUT_FILENO);
    if (err >= 0) posix_spawn_file_actions_adddup2(&actions_, err, STDERR_FILENO);
    else posix_spawn_file_actions_addopen(&actions_, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawnattr_init(&attributes_);
    sigset_t none, defaults;
    sigemptyset(&none);
    sigemptyset(&defaults);
    for (const int signal : {SIGINT, SIGTERM, SIGPIPE}) sigaddset(&defaults, signal);
    posix_spawnattr_setsigmask(&attributes_, &none);
    posix_spawnattr_setsigdefault(&attributes_, &defaults);
    posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }
  ~SpawnSettings() {
    posix_spawn_file_actions_destroy(&actions_);
    posix_spawnattr_destroy(&attributes_);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;

  [[nodiscard]] pid_t spawn(const std::string& program, char** arguments) const {
    pid_t pid = -1;
    return ::posix_spawn(&pid, program.c_str(), &actions_, &attributes_, arguments, environ) == 0 ? pid : -1;
  }

 private:
  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
};

}  // namespace

ChildProcess::ChildProcess(const Options& options) {
  start(options);
  if (pid_ < 0) end_ = End{127, 0};
}

void ChildProcess::start(const Options& options) {
  const Descriptor in(file_of(options.input));
  int ends[2] = {-1, -1};
  if (in.get() < 0 || ::pipe2(ends, O_CLOEXEC) != 0) return;
  Descriptor output(ends[0]);
  const Descriptor out(ends[1]);
  if (options.keep_errors) errors_ = ::memfd_create("errors", MFD_CLOEXEC);
  const std::string program = options.program.string();
  std::vector<std::string> words{program};
  words.insert(words.end(), options.arguments.begin(), options.arguments.end());
  std::vector<char*> arguments;
  for (auto& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_ = SpawnSettings(in.get(), out.get(), errors_).spawn(program, arguments.data());
  if (pid_ >= 0) output_ = output.release();
}

ChildProcess::~ChildProcess() {
  kill();
  if (errors_ >= 0) ::close(errors_);
}

std::optional<std::string> ChildProcess::line(double seconds) {
  for (;;) {
    if (const auto end = text_.find('\n'); end != std::string::npos) {
      std::string line = text_.substr(0, end);
      text_.erase(0, end + 1);
      return line;
    }
    if (!open()) return std::nullopt;
    pollfd waiting{output_, POLLIN, 0};
    const int ready = ::poll(&waiting, 1, static_cast<int>(seconds * 1000));
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) return std::nullopt;
    char buffer[4096];
    const auto count = ready > 0 ? ::read(output_, buffer, sizeof buffer) : 0;
    if (count > 0) text_.append(buffer, static_cast<std::size_t>(count));
    else ::close(std::exchange(output_, -1));
  }
}

ChildProcess::End ChildProcess::end() {
  constexpr int looks = 500;
  for (int look = 0; !end_; ++look) {
    int status = 0;
    const pid_t ended = ::waitpid(pid_, &status, look < looks ? WNOHANG : 0);
    if (ended == pid_) end_ = WIFSIGNALED(status) ? End{-1, WTERMSIG(status)} : End{WEXITSTATUS(status), 0};
    else if (ended < 0 && errno != EINTR) end_ = End{};
    else if (look + 1 == looks) ::kill(pid_, SIGKILL);
    else if (look < looks) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return *end_;
}

void ChildProcess::kill() {
  if (!end_) ::kill(pid_, SIGKILL);
  static_cast<void>(end());
  if (output_ >= 0) ::close(std::exchange(output_, -1));
}

std::string ChildProcess::errors() const {
  constexpr std::size_t most = 64 * 1024;
  std::string text(most, '\0');
  const auto count = errors_ >= 0 ? ::pread(errors_, text.data(), most, 0) : 0;
  text.resize(static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
  return text;
}

void end_with_parent() { ::prctl(PR_SET_PDEATHSIG, SIGKILL); }

}  // namespace sluice
