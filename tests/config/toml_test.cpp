// Values and their places as the file has them; what is written reads back.
#include "framework/config/toml.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <clocale>
#include <cmath>
#include <cstring>
#include <limits>

#include <sluice/error.hpp>

#include "framework/config/tables.hpp"
#include "tests/config/catalogue_of_manifests.hpp"

using namespace sluice;

namespace {

bool same(const Value& a, const Value& b);
bool same(const Table& a, const Table& b) {
  if (a.size() != b.size()) return false;
  for (const Member& member : a) {
    const Member* other = find(b, member.key);
    if (!other || !same(member.value, other->value)) return false;
  }
  return true;
}
bool same(const Value& a, const Value& b) {
  if (a.data.index() != b.data.index()) return false;
  if (const Table* table = as_table(a)) return same(*table, *as_table(b));
  if (const List* list = as_list(a)) {
    const List& other = *as_list(b);
    if (list->size() != other.size()) return false;
    for (std::size_t i = 0; i < list->size(); ++i)
      if (!same((*list)[i], other[i])) return false;
    return true;
  }
  if (const auto* real = std::get_if<double>(&a.data)) return std::memcmp(real, &std::get<double>(b.data), sizeof *real) == 0;
  if (const auto* text = as_text(a)) return *text == *as_text(b);
  if (const auto* whole = std::get_if<std::int64_t>(&a.data)) return *whole == std::get<std::int64_t>(b.data);
  return std::get<bool>(a.data) == std::get<bool>(b.data);
}

std::string any_text() {
  const auto pieces = *rc::gen::container<std::vector<int>>(rc::gen::inRange(0, 14));
  const char* const alphabet[] = {"a", "\"", "\\", "\n", "\t", "\r", "\x01", "\x7f", "é", "视", "😀", " ", "#", "'''"};
  std::string text;
  for (const int piece : pieces) text += alphabet[piece];
  return text;
}

void add(Table& table, std::string key, Value value) {
  Member member;
  member.key = std::move(key);
  member.value = std::move(value);
  table.push_back(std::move(member));
}

Value any_value(int depth) {
  switch (*rc::gen::inRange(0, depth > 0 ? 6 : 4)) {
    case 0: return {*rc::gen::arbitrary<bool>(), {}};
    case 1: return {*rc::gen::arbitrary<std::int64_t>(), {}};
    case 2: {
      const auto bits = *rc::gen::arbitrary<std::uint64_t>();
      double real;
      std::memcpy(&real, &bits, sizeof real);
      return {std::isfinite(real) ? real : 0.1, {}};
    }
    case 3: return {any_text(), {}};
    case 4: {
      List list;
      for (int n = *rc::gen::inRange(0, 4); n > 0; --n) list.push_back(any_value(depth - 1));
      return {std::move(list), {}};
    }
    default: {
      Table table;
      for (int n = *rc::gen::inRange(0, 4); n > 0; --n) add(table, fmt::format("k{}{}", n, *rc::gen::inRange(0, 2) ? "" : any_text()), any_value(depth - 1));
      return {std::move(table), {}};
    }
  }
}

}  // namespace

TEST_CASE("values come in the order of the file, each with its place") {
  const Table table = parse_toml("zeta = 1\n[b]\ny = 'text'   \nx = [1.5, true]\n[a]\n[[s]]\np = { q = 2 }\n", "f.toml", 3);
  REQUIRE(table.size() == 4);
  CHECK(table[0].key == "zeta");
  CHECK(table[1].key == "b");
  CHECK(table[2].key == "a");
  CHECK(table[3].key == "s");
  const Table& b = *as_table(table[1].value);
  CHECK(b[0].key == "y");
  CHECK(b[0].place.text() == "f.toml:3:1");
  CHECK(b[0].value.place.text() == "f.toml:3:5");
  CHECK(b[0].value.place.layer == 3);
  CHECK(as_list(b[1].value)->at(1).place.text() == "f.toml:4:11");
  const Table& element = *as_table(as_list(table[3].value)->at(0));
  CHECK(find(*as_table(element[0].value), "q")->value.place.text() == "f.toml:7:11");
}

// Catches columns counted in bytes: an editor would jump to the wrong place behind a Chinese path.
TEST_CASE("columns count characters") {
  const Table table = parse_toml("a = { 'é视😀' = 1, b = 2 }\n", "f", 0);
  CHECK(as_table(table[0].value)->at(1).place.column == 18);
  CHECK_THROWS_WITH(static_cast<void>(parse_toml("a = 'é视😀' b\n", "f", 0)), doctest::Contains("f:1:11: "));
}

TEST_CASE("a byte order mark and CRLF are no reason to refuse a file") {
  const Table table = parse_toml("\xEF\xBB\xBF" "a = 1\r\n[b]\r\nc = \"x\"\r\n", "f", 0);
  CHECK(table.size() == 2);
  CHECK(*as_text(find(*as_table(table[1].value), "c")->value) == "x");
}

// Catches a writer that loses bits of a number, escapes wrongly, or breaks a key.
TEST_CASE("what is written reads back to the same bits") {
  rc::check("parse(write(x)) == x", [] {
    Table table;
    for (int n = *rc::gen::inRange(0, 5); n > 0; --n) add(table, fmt::format("key{}", n), any_value(3));
    RC_ASSERT(same(parse_toml(write_toml(table), "f", 0), table));
  });
  for (const double real : {0.1, 1e300, 5e-324, -0.0, 1.0, 123456789.123456789, std::numeric_limits<double>::max()}) {
    const Table table{{"x", {}, {real, {}}}};
    CHECK(same(parse_toml(write_toml(table), "f", 0), table));
  }
}

TEST_CASE("numbers do not depend on the locale") {
  const char* german = std::setlocale(LC_ALL, "de_DE.UTF-8");
  const Table table = parse_toml("lr = 0.05\n", "f", 0);
  CHECK(std::get<double>(table[0].value.data) == 0.05);
  CHECK(write_toml(table) == "lr = 0.05\n");
  if (german) std::setlocale(LC_ALL, "C");
}

TEST_CASE("files that are none say what they are") {
  const testing::Folder folder;
  CHECK_THROWS_WITH(static_cast<void>(read_toml(folder.path(), "p", 0)), doctest::Contains("p: is a folder, not a pipeline file"));
  CHECK_THROWS_WITH(static_cast<void>(read_toml("/dev/null", "p", 0)), doctest::Contains("p: is no regular file"));
  static_cast<void>(folder.write("motion8.toml", ""));
  CHECK_THROWS_WITH(static_cast<void>(read_toml(folder.path() / "moton8.toml", "x/moton8.toml", 0)), doctest::Contains("did you mean"));
  CHECK_THROWS_WITH(static_cast<void>(read_toml(folder.path() / "moton8.toml", "x/moton8.toml", 0)), doctest::Contains("motion8.toml?"));
}

TEST_CASE("tables merge key by key, all else is replaced where it stood") {
  Table base = parse_toml("a = 1\n[t]\nx = 1\ny = [1, 2]\nz = 3\n", "base", 0);
  merge(base, parse_toml("[t]\ny = [9]\nw = 4\n[u]\nv = 5\n", "top", 1));
  CHECK(write_toml(base) == "a = 1\n\n[t]\nx = 1\ny = [9]\nz = 3\nw = 4\n\n[u]\nv = 5\n");
  const Table& t = *as_table(find(base, "t")->value);
  CHECK(find(t, "y")->value.place.file == "top");
  CHECK(find(t, "x")->value.place.file == "base");
}
