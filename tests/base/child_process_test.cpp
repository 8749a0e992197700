// Children of /bin/sh: their lines, their ends, and that none is left behind.
#include <doctest/doctest.h>

#include <csignal>

#include "framework/base/child_process.hpp"

using namespace sluice;

namespace {

ChildProcess::Options shell(const std::string& script, const std::string& input = {}) { return {.program = "/bin/sh", .arguments = {"-c", script}, .input = input, .keep_errors = true}; }

}  // namespace

// Catches lines that are lost, joined or read twice, and an end that is not told from silence.
TEST_CASE("a child's lines, what it reads, what it complains about, and its code") {
  ChildProcess child(shell("read word; echo \"$word and more\"; echo; echo wrong >&2; exit 7", "this\n"));
  CHECK(child.line(10) == "this and more");
  CHECK(child.line(10) == "");
  CHECK(child.line(10) == std::nullopt);
  CHECK_FALSE(child.open());
  const auto end = child.end();
  CHECK(end.code == 7);
  CHECK(end.signal == 0);
  CHECK(child.errors() == "wrong\n");
}

// Catches a wait for ever: for a child that is silent, that closed its output and goes on, or that never began.
TEST_CASE("silence, a signal, an output that is closed early, a program that is not there") {
  ChildProcess silent(shell("exec sleep 100"));
  CHECK(silent.line(0.05) == std::nullopt);
  CHECK(silent.open());
  silent.kill();
  CHECK(silent.end().signal == SIGKILL);
  ChildProcess ended(shell("kill -SEGV $$"));
  CHECK(ended.line(10) == std::nullopt);
  CHECK(ended.end().signal == SIGSEGV);
  ChildProcess goes_on(shell("exec sleep 100 >&-"));
  CHECK(goes_on.line(10) == std::nullopt);
  CHECK(goes_on.end().signal == SIGKILL);
  ChildProcess missing({.program = "/nowhere/program"});
  CHECK_FALSE(missing.open());
  CHECK(missing.end().code == 127);
}

// Catches a child that inherits blocked signals, and so could not be interrupted.
TEST_CASE("a child listens to signals that its parent blocks") {
  sigset_t term, before;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &term, &before);
  ChildProcess child(shell("kill -TERM $$; echo still there"));
  CHECK(child.line(10) == std::nullopt);
  CHECK(child.end().signal == SIGTERM);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}
