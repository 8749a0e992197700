// Texts and columns of a listing: what goes in comes out, in little room.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include <sluice/rng.hpp>

#include "framework/flow/entries.hpp"
#include "framework/memory/process.hpp"

using namespace sluice;

TEST_CASE("texts come back as they were; equal ones share a number") {
  TextPool pool;
  const std::vector<std::string> texts{"", "/", "a", "/a/b/c.mp4", "/a/b/d.mp4", "/a/b/", "a/b", "\xff\xfe/\x01.avi", std::string("zero\0byte", 9), "日本/語.mp4"};
  std::vector<std::uint32_t> numbers;
  for (const auto& text : texts) numbers.push_back(pool.add(text));
  for (std::size_t i = 0; i < texts.size(); ++i) {
    CHECK(pool.get(numbers[i]) == texts[i]);
    CHECK(pool.length(numbers[i]) == texts[i].size());
    CHECK(pool.add(texts[i]) == numbers[i]);
  }
  CHECK(pool.size() == texts.size());
}

TEST_CASE("a million paths in a thousand folders take less than 60 bytes each") {
  const auto before = resident_bytes();
  TextPool pool;
  for (int i = 0; i < 1000000; ++i)
    REQUIRE(pool.add("/data/kinetics/train/class_" + std::to_string(i % 1000) + "/video_" + std::to_string(i) + ".mp4") == static_cast<std::uint32_t>(i));
  pool.finish();
  CHECK(resident_bytes() - before < 60u * 1000000);
  CHECK(pool.get(999999) == "/data/kinetics/train/class_999/video_999999.mp4");
}

TEST_CASE("rows: columns fill up where a stream comes late, pieces where the first one has bounds") {
  TextPool pool;
  Rows rows;
  const abi::Text clip{"clip", 4}, depth{"depth", 5}, path{"x.mp4", 5}, other{"y.mp4", 5};
  abi::Entry entry{sizeof(abi::Entry), Split::train, 3, Unit::whole, 1, 0, 0, &clip, &path, {nullptr, 0}, {nullptr, 0}};
  rows.add(pool, entry);
  const abi::Text names[] = {clip, depth}, values[] = {other, path};
  abi::Entry second = entry;
  second.stream_count = 2, second.stream_names = names, second.stream_values = values, second.unit = Unit::frames, second.start = 1, second.end = 5;
  rows.add(pool, second);
  rows.add(pool, entry);
  REQUIRE(rows.size() == 3);
  REQUIRE(rows.stream("depth") == 1);
  CHECK(rows.stream("none") == -1);
  CHECK(rows.texts[1] == std::vector<std::uint32_t>{no_text, rows.texts[0][0], no_text});
  REQUIRE(rows.bounds.size() == 3);
  CHECK(rows.bounds[0].unit == Unit::whole);
  CHECK(rows.bounds[1].end == 5);
  CHECK(rows.bounds[2].unit == Unit::whole);
  rows.keep({false, true, false});
  CHECK(rows.size() == 1);
  CHECK(pool.get(rows.texts[0][0]) == "y.mp4");
  CHECK(rows.bounds[0].unit == Unit::frames);
}
