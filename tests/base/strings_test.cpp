// Text helpers against naive oracles and the cases of the Unicode standard.
#include "framework/base/strings.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>

using namespace sluice;

namespace {

// Levenshtein's definition, recursively; no transpositions.
std::size_t naive_distance(std::string_view a, std::string_view b) {
  if (a.empty() || b.empty()) return a.size() + b.size();
  const std::size_t replace = naive_distance(a.substr(1), b.substr(1)) + (a[0] != b[0]);
  return std::min({replace, naive_distance(a.substr(1), b) + 1, naive_distance(a, b.substr(1)) + 1});
}

}  // namespace

TEST_CASE("split and join are each other's inverse") {
  CHECK(split("", '|') == std::vector<std::string>{""});
  CHECK(split("a,,b", ',') == std::vector<std::string>{"a", "", "b"});
  rc::check("join(split(x)) == x", [](const std::string& text) { RC_ASSERT(join(split(text, ','), ",") == text); });
}

TEST_CASE("edit distance is Levenshtein's, or less by swaps") {
  CHECK(edit_distance("hlfip", "hflip") == 1);
  CHECK(edit_distance("", "abc") == 3);
  CHECK(edit_distance("kitten", "sitting") == 3);
  rc::check("bounds", [] {
    const auto word = rc::gen::container<std::string>(rc::gen::elementOf(std::string("ab.c")));
    const std::string a = (*word).substr(0, 6), b = (*word).substr(0, 6);
    const std::size_t naive = naive_distance(a, b), ours = edit_distance(a, b);
    RC_ASSERT(ours <= naive);
    RC_ASSERT(2 * ours >= naive);  // a swap replaces two edits
    RC_ASSERT(ours == edit_distance(b, a));
    RC_ASSERT((ours == 0) == (a == b));
  });
}

TEST_CASE("nearest finds what was meant, best first") {
  const std::vector<std::string> known{"augment.hflip", "augment.vflip", "augment.resize", "decode.ffmpeg", "decode.opencv", "frames.dense"};
  CHECK(nearest("augment.hlfip", known).front() == "augment.hflip");
  CHECK(nearest("decode.fmpeg", known).front() == "decode.ffmpeg");
  CHECK(nearest("hflip", known).front() == "augment.hflip");
  CHECK(nearest("Augment.HFlip", known).front() == "augment.hflip");
  CHECK(nearest("optimizer.adam", known).empty());
  CHECK(nearest("a", known).empty());
  CHECK(nearest(std::string(100000, 'a'), known).empty());
}

// Catches lenient decoding: overlong forms and surrogates are how filters are passed by.
TEST_CASE("UTF-8 is judged as by table 3-7 of the Unicode standard") {
  for (const char* right : {"", "abc", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80", "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF", "视频"}) {
    CAPTURE(right);
    CHECK_FALSE(first_bad_utf8(right));
  }
  const std::pair<std::string, std::size_t> wrong[] = {{"\x80", 0}, {"a\xC0\x80", 1}, {"\xC1\xBF", 0}, {"\xE0\x9F\x80", 0}, {"\xED\xA0\x80", 0}, {"\xF0\x8F\x80\x80", 0},
                                                       {"\xF4\x90\x80\x80", 0}, {"\xF5\x80\x80\x80", 0}, {"ab\xE4\xB8", 2}, {"\xFF", 0}, {"x\xC3(", 1}};
  for (const auto& [text, at] : wrong) CHECK(first_bad_utf8(text) == at);
}

// Catches a name of a file or plugin that, printed, clears the screen or hides what follows.
TEST_CASE("what is quoted cannot move a cursor") {
  CHECK(in_quotes("a\x1b[2Jb") == "'a\\x1b[2Jb'");
  CHECK(in_quotes("\xC2\x9B") == "'\\xc2\\x9b'");
  CHECK(in_quotes("视频 é") == "'视频 é'");
  CHECK(in_quotes("\xFF") == "'\\xff'");
  CHECK(in_quotes(std::string(1000, 'x')).size() < 150);
  CHECK(is_printable("视频"));
  CHECK_FALSE(is_printable("a\nb"));
  CHECK_FALSE(is_printable("\xC2\x9B"));
}

TEST_CASE("numbers and nouns") {
  CHECK(counted(1, "clip") == "1 clip");
  CHECK(counted(0, "clip") == "0 clips");
  CHECK(counted(1600, "clip") == "1,600 clips");
  CHECK(with_commas(1234567) == "1,234,567");
  CHECK(with_commas(999) == "999");
  CHECK(trim(" \t a b \r\n") == "a b");
}
