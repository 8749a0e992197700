// From the pipeline file into a plugin's struct.
#include "framework/plugin/recipe.hpp"

#include <doctest/doctest.h>

#include <sluice/error.hpp>
#include <sluice/sample.hpp>

#include "framework/config/plugin_settings.hpp"
#include "framework/config/toml.hpp"
#include "tests/plugin/fixtures.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

Registry& registry() {
  static Registry all = [] {
    Registry made;
    made.add_path(fixture("every_field"));
    made.add_path(fixture("parts"));
    return made;
  }();
  return all;
}

// Checked against the manifest first, as load_pipeline() does.
Recipe made(const std::string& toml, abi::Kind kind = abi::Kind::stage) {
  Problems problems;
  std::vector<std::string> notices;
  PluginTable table;
  table.path = "stage.0";
  table.keys = parse_toml(toml, "/pipes/f.toml", 0);
  const PluginConfig config = read_plugin(table, {kind}, registry(), problems, notices);
  problems.throw_if_any();
  return {registry(), config};
}

std::string described(const Recipe& recipe) {
  std::string text;
  auto failure = detail::no_failure();
  recipe.descriptor().describe(recipe.instance(), &text, [](void* sink, abi::Text part) { static_cast<std::string*>(sink)->append(part.data, part.size); }, &failure);
  return text;
}

}  // namespace

TEST_CASE("a field of every type arrives as it was written") {
  CHECK(described(made("plugin = 'augment.every_field'")) == "0;3;4;0.5;text;;1,2,;0.25,;a,;;absent;alive 1");
  const Recipe recipe = made(R"(plugin = 'augment.every_field'
truth = true
whole = 9
small = -5
real = 2
text = "other"
file = "../视频/a b.csv"
wholes = []
reals = [1, 2.5]
texts = ["x", "", "视"]
map = { left = "right", "a b" = "" }
maybe = 0
)");
  CHECK(described(recipe) == "1;9;-5;2;other;/视频/a b.csv;;1,2.5,;x,,视,;left=right,a b=,;0;alive 1");
}

TEST_CASE("a nested plugin is made first and handed over with its fields") {
  CHECK(described(made("plugin = 'model.outer'\nbackbone = { plugin = 'backbone.inner', width = 12 }", abi::Kind::model)) == "backbone.inner of width 12");
  CHECK(described(made("plugin = 'model.outer'\nbackbone = 'backbone.inner'", abi::Kind::model)) == "backbone.inner of width 7");
  Recipe first = made("plugin = 'model.outer'\nbackbone = { plugin = 'backbone.inner', width = 3 }", abi::Kind::model);
  const Recipe moved = std::move(first);
  CHECK(described(moved) == "backbone.inner of width 3");  // what it points to did not move
}

// Catches an instance that is left behind when its fields or its check() are wrong.
TEST_CASE("a recipe that cannot be made leaves nothing, and says where it stands") {
  const auto text = [](const std::string& toml) {
    try {
      static_cast<void>(made(toml));
      return std::string("made");
    } catch (const Error& error) {
      CHECK(error.code() != Code::plugin);
      return std::string(error.what());
    }
  };
  CHECK(text("plugin = 'augment.every_field'\nbad = 1") == "/pipes/f.toml:1:10: augment.every_field: bad is 1\n  hint: set it to 0");
  CHECK(text("plugin = 'augment.every_field'\nbad = 2").find("threw something") != std::string::npos);
  CHECK(text("plugin = 'augment.every_field'\nsmall = 3000000000").find("/pipes/f.toml:2:9: augment.every_field.small: the number does not fit") != std::string::npos);
  CHECK(described(made("plugin = 'augment.every_field'")).ends_with("alive 1"));
}

TEST_CASE("a failure is a text with an end and a code that exists, whatever the plugin left") {
  auto failure = detail::no_failure();
  CHECK_NOTHROW(throw_failure(0, failure, "x"));
  std::fill(std::begin(failure.what), std::end(failure.what), 'a');
  std::fill(std::begin(failure.hint), std::end(failure.hint), 'b');
  failure.code = 77;
  try {
    throw_failure(1, failure, "stage x");
    FAIL("did not throw");
  } catch (const Error& error) {
    CHECK(error.code() == Code::plugin);
    CHECK(error.message().size() == sizeof failure.what);
    CHECK(error.where() == "stage x");
  }
}
