// The manifest record that a plugin's fields become: all that listing, checking and the schema know of it.
#include <doctest/doctest.h>

#include <map>

#include "../support/plugin_host.hpp"

#include <sluice/stage.hpp>

using namespace sluice;
using namespace sluice::testing;

namespace {
const abi::Manifest& manifest(const char* file, const char* name) { return *Plugin(std::string(SLUICE_BINARY_DIR "/tests/fixtures/") + file + ".so").find(name)->manifest; }
std::map<std::string, abi::FieldRecord> fields_of(const abi::Manifest& record) {
  std::map<std::string, abi::FieldRecord> out;
  for (std::uint32_t i = 0; i < record.field_count; ++i) out[record.fields[i].name] = record.fields[i];
  return out;
}

struct Plain {
  Clip operator()(Clip clip, Rng&) const { return clip; }
};
// What a compiler must accept as a default at compile time.
struct Defaults {
  double third = 1.0 / 3;
  double tiny = -0.000001;
  double huge = 123456.5;
  std::vector<double> reals = {1.0 / 3, -0.5, 0.9999999, 12};
  std::vector<std::int64_t> wholes = {INT64_MIN, INT64_MAX, 0};
  std::vector<Text> none;
  int small = -7;
  static constexpr auto fields = sluice::fields(
      field(&Defaults::third, "third", ""), field(&Defaults::tiny, "tiny", ""), field(&Defaults::huge, "huge", ""), field(&Defaults::reals, "reals", ""),
      field(&Defaults::wholes, "wholes", ""), field(&Defaults::none, "none", ""), field(&Defaults::small, "small", "", above(-8)));
  static constexpr std::uint32_t threads = 3;
  Clip operator()(Clip clip, Rng&) const { return clip; }
};
constexpr auto defaults = sluice::detail::make_manifest<Defaults>("fixture.defaults", abi::Kind::stage, 0, "");
constexpr auto plain = sluice::detail::make_manifest<Plain>("fixture.plain", abi::Kind::stage, 0, "");
}  // namespace

// Catches: a record that says another type, limit or default than the struct has, with either compiler.
TEST_CASE("each field's type, limits, choices and default are in the record") {
  for (const auto* file : {"shapes", "shapes_clang"}) {
    CAPTURE(file);
    const auto& record = manifest(file, "fixture.clip");
    CHECK(std::string_view(record.magic, 8) == "SLUICEM1");
    CHECK(record.bytes == sizeof(abi::Manifest));
    CHECK(record.help == std::string("Adds a number to every byte with chance p."));
    CHECK(record.reads == std::string("*"));
    CHECK(record.flags == abi::manifest_parallel);
    const auto fields = fields_of(record);
    const auto type = [&](const char* name) { return static_cast<FieldType>(fields.at(name).type); };
    CHECK(type("p") == FieldType::real);
    CHECK(fields.at("p").real == 0.5);
    CHECK(fields.at("p").flags == (abi::field_has_min | abi::field_has_max));
    CHECK((fields.at("p").min == 0 && fields.at("p").max == 1));
    CHECK(type("add") == FieldType::integer);
    CHECK(fields.at("add").integer == 1);
    CHECK(type("twice") == FieldType::boolean);
    CHECK(type("mode") == FieldType::text);
    CHECK(fields.at("mode").text == std::string("plus"));
    CHECK(fields.at("mode").choices == std::string("plus|minus"));
    CHECK(type("list") == FieldType::reals);
    CHECK(fields.at("list").text == std::string("[0.25, -3.5]"));
    CHECK(fields.at("numbers").text == std::string("[1, -2]"));
    CHECK(fields.at("names").text == std::string("[\"a\", \"b c\"]"));
    CHECK(type("maybe") == FieldType::real);
    CHECK(fields.at("maybe").flags == (abi::field_optional | abi::field_has_min | abi::field_has_max | abi::field_open_max));
    CHECK(type("map") == FieldType::map);
    CHECK(fields_of(manifest(file, "source.two")).at("root").flags == (abi::field_path | abi::field_required));
    CHECK(manifest(file, "fixture.sample").reads == std::string("*,label,caption"));
    CHECK(manifest(file, "fixture.sample").writes == std::string("label,caption"));
  }
}

TEST_CASE("defaults at the edges") {
  const auto fields = fields_of(defaults);
  CHECK(fields.at("third").real == 1.0 / 3);
  CHECK(fields.at("tiny").real == -0.000001);
  CHECK(fields.at("reals").text == std::string("[0.333333, -0.5, 1.0, 12.0]"));
  CHECK(fields.at("wholes").text == std::string("[-9223372036854775808, 9223372036854775807, 0]"));
  CHECK(fields.at("none").text == std::string("[]"));
  CHECK(fields.at("small").integer == -7);
  CHECK((fields.at("small").flags & abi::field_open_min) != 0);
  CHECK(defaults.threads == 3);
  CHECK(plain.field_count == 0);
}

// Catches: a record whose layout moved, which an older host would misread without a word.
TEST_CASE("the record's layout is fixed") {
  CHECK(sizeof(abi::FieldRecord) == 616);
  CHECK(alignof(abi::Manifest) == 64);
  CHECK(offsetof(abi::Manifest, name) == 32);
  CHECK(offsetof(abi::Manifest, fields) == 784);
  CHECK(sizeof(abi::Manifest) % 64 == 0);
}
