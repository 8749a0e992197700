// Runs a piece of code in a child process that it may end: for planted defects that an invariant must catch.
#pragma once

#include <csignal>
#include <cstdlib>
#include <functional>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace sluice::testing {

// The signal that ended the child, 0 when it ran through.
inline int signal_of(const std::function<void()>& code) {
  const pid_t child = fork();
  if (child == 0) {
    const rlimit no_core{0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    const int nowhere = open("/dev/null", O_WRONLY);
    dup2(nowhere, STDERR_FILENO);
    for (const int signal : {SIGABRT, SIGSEGV, SIGTERM}) std::signal(signal, SIG_DFL);  // the test framework's own would report
    code();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

}  // namespace sluice::testing
