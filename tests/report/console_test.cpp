// The console through a pseudo-terminal: what a person sees, at several widths, while the window changes, with names that mean mischief.
#include <doctest/doctest.h>

#include <csignal>
#include <cstdlib>
#include <string>

#include <sys/socket.h>

#include "framework/report/console.hpp"
#include "tiny_terminal.hpp"

using namespace sluice;
using sluice::testing::TinyTerminal;

TEST_CASE("columns of a text, and texts that fit") {
  // Catches bytes taken for columns: a Chinese file name would wrap the live line.
  CHECK(columns_of("abc") == 3);
  CHECK(columns_of("\xc3\xa4\xc3\xb6") == 2);
  CHECK(columns_of("\xe8\xa7\x86\xe9\xa2\x91") == 4);       // two Chinese characters
  CHECK(columns_of("\xed\x95\x9c") == 2);                     // one Korean
  CHECK(columns_of("\xf0\x9f\x8e\xac") == 2);                 // one pictograph
  CHECK(columns_of("e\xcc\x81") == 1);                        // e and a combining accent
  CHECK(columns_of(printable("\xff\xfe")) == 2);
  CHECK(fitted("abcdefgh", 8) == "abcdefgh");
  CHECK(fitted("abcdefghi", 8) == "abcde...");
  CHECK(fitted("\xe8\xa7\x86\xe9\xa2\x91\xe8\xa7\x86\xe9\xa2\x91", 6) == "\xe8\xa7\x86...");  // 2 + 3 columns: the next would be 7
  CHECK(fitted("abc", 2) == "..");
  CHECK(fitted("abc", 0) == "");
  CHECK(printable("a\x1b[2Jb\tc\n\x7f\xc2\x9b\xff\xe2\x80\xae") == "a?[2Jb?c?????");
}

TEST_CASE("one line redrawn, others above it, an empty one at the end") {
  // Catches escape codes in the scrollback, a line that runs over the margin, debris of a longer line, a cursor left in mid-line.
  ::setenv("TERM", "xterm", 1);
  for (const int width : {40, 80, 200}) {
    CAPTURE(width);
    TinyTerminal terminal(width);
    REQUIRE(terminal.fd() >= 0);
    {
      Console console(terminal.fd());
      REQUIRE(console.live());
      CHECK(console.width() == width);
      console.print("first");
      console.show("a long live line " + std::string(300, 'x'));
      terminal.read();
      CHECK(columns_of(terminal.current()) == width - 1);
      console.show("short");
      console.print("second\nthird");
      console.show("evil \x1b[2J\x1b]0;title\x07 \xff");
      terminal.read();
      CHECK(terminal.current() == fitted("evil ?[2J?]0;title? ?", width - 1));
      console.show("last");
    }
    terminal.read();
    CHECK(terminal.lines() == std::vector<std::string>{"first", "second", "third"});
    CHECK(terminal.current() == "");
    CHECK(terminal.cursor_at_start());
    for (const auto& fault : terminal.faults()) FAIL_CHECK(fault);
  }
}

TEST_CASE("the window changes its width in mid-run") {
  // Catches a width read once at the start.
  ::setenv("TERM", "xterm", 1);
  TinyTerminal terminal(120);
  Console console(terminal.fd());
  for (const int width : {120, 40, 200, 10, 2, 80}) {
    terminal.resize(width);
    console.show(std::string(300, static_cast<char>('a' + width % 26)));
    terminal.read();
    CHECK(columns_of(terminal.current()) == width - 1);
  }
  for (const auto& fault : terminal.faults()) FAIL_CHECK(fault);
}

TEST_CASE("elsewhere: lines, no escape code, nothing redrawn") {
  int pipe[2];
  REQUIRE(::pipe(pipe) == 0);
  {
    Console console(pipe[1]);
    CHECK_FALSE(console.live());
    CHECK(console.width() == 80);
    console.show("live");
    console.print("line \x1b[31m");
    Console quiet(pipe[1], Console::Mode::quiet);
    quiet.print("nothing");
  }
  char bytes[100];
  const auto count = ::read(pipe[0], bytes, sizeof bytes);
  CHECK(std::string(bytes, static_cast<std::size_t>(count)) == "line ?[31m\n");
  ::close(pipe[0]);
  ::close(pipe[1]);

  TinyTerminal terminal(80);
  ::setenv("TERM", "dumb", 1);
  CHECK_FALSE(Console(terminal.fd()).live());
  ::unsetenv("TERM");
  CHECK_FALSE(Console(terminal.fd()).live());
  ::setenv("TERM", "xterm", 1);
  CHECK_FALSE(Console(terminal.fd(), Console::Mode::plain).live());
}

TEST_CASE("a terminal that goes away ends the showing, not the run") {
  // Catches an exception, or a loop, when an ssh session is lost.
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  ::signal(SIGPIPE, SIG_IGN);
  Console console(ends[1], Console::Mode::plain);
  ::close(ends[0]);
  for (int i = 0; i < 3; ++i) console.print("to nobody");
  ::signal(SIGPIPE, SIG_DFL);
  ::close(ends[1]);
}
