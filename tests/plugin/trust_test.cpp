// Plugin files that must not be loaded (PROMISES G21): none of their code may run. The plugin `marker` leaves a file behind as
// soon as it is loaded; each attack must fail and leave none.
#include "framework/plugin/trust.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>

#include <grp.h>
#include <pwd.h>
#include <sluice/error.hpp>

#include "framework/config/load.hpp"
#include "framework/config/problems.hpp"
#include "framework/plugin/registry.hpp"
#include "tests/plugin/fixtures.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

// What it says when augment.marker is wanted from the folder or file; empty when it was loaded.
std::string attempt(const fs::path& path) {
  Registry registry;
  try {
    registry.add_path(path);
    static_cast<void>(registry.load("augment.marker"));
    return {};
  } catch (const Error& error) {
    return error.what();
  }
}

class Directory {
 public:
  explicit Directory(const fs::path& to) : back_(fs::current_path()) { fs::current_path(to); }
  ~Directory() { fs::current_path(back_); }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;

 private:
  fs::path back_;
};

}  // namespace

TEST_CASE("who may write decides") {
  const uid_t me = ::getuid();
  const gid_t mine = ::getgid();
  CHECK(distrust(S_IFREG | 0644, me, mine, "p").why.empty());
  CHECK(distrust(S_IFREG | 0755, me, mine, "p").why.empty());
  CHECK(distrust(S_IFREG | 0400, me, mine, "p").why.empty());
  CHECK(distrust(S_IFREG | 0646, me, mine, "/a/p.so").cure == "chmod o-w /a/p.so");
  CHECK(distrust(S_IFREG | 0646, me, mine, "/a b/it's.so").cure == "chmod o-w '/a b/it'\\''s.so'");
  CHECK(distrust(S_IFREG | 0602, me, mine, "p").why.find("everybody may write") != std::string::npos);
  CHECK(distrust(S_IFDIR | 0755, me, mine, "p").why == "it is a folder");
  CHECK(distrust(S_IFIFO | 0644, me, mine, "p").why == "it is no regular file");
  CHECK(distrust(S_IFCHR | 0644, me, mine, "p").why == "it is no regular file");
  CHECK(distrust(S_IFSOCK | 0644, me, mine, "p").why == "it is no regular file");
  // root's own group is root, with nobody else in it; "users" (100) and "tty" (5) are shared.
  CHECK(distrust(S_IFREG | 0664, 0, 0, "p").why.empty());
  CHECK(distrust(S_IFREG | 0664, 0, 100, "p").cure == "chmod g-w p");
  CHECK(distrust(S_IFREG | 0664, 0, 5, "p").why.find("group of several people") != std::string::npos);
  CHECK(distrust(S_IFREG | 0644, 0, 100, "p").why.empty());
  // Users without a name: the group of the same number is their own.
  CHECK(distrust(S_IFREG | 0664, 54321, 54321, "p").why.empty());
  CHECK_FALSE(distrust(S_IFREG | 0664, 54321, 54322, "p").why.empty());
}

TEST_CASE("the mark works: what may be loaded leaves it") {
  const PluginFolder folder;
  const Mark mark(folder);
  static_cast<void>(folder.add("marker"));
  Registry registry;
  registry.add_path(folder.path());
  CHECK_FALSE(mark.left());  // listing runs nothing
  CHECK(registry.find("augment.marker").manifest);
  CHECK_NOTHROW(static_cast<void>(registry.load("augment.marker")));
  CHECK(mark.left());
}

TEST_CASE("attacks on the file fail before any of its code runs") {
  const PluginFolder folder;
  const Mark mark(folder);
  const fs::path file = folder.add("marker");
  const auto bytes = bytes_of_file(file);

  SUBCASE("everybody may write to it") {
    ::chmod(file.c_str(), 0646);
    CHECK(attempt(folder.path()).find("everybody may write to it, so it may hold anybody's code. chmod o-w " + file.string()) != std::string::npos);
    CHECK(attempt(file).find("chmod o-w") != std::string::npos);
  }
  SUBCASE("everybody may write into the folder") {
    ::chmod(folder.path().c_str(), 0777);
    CHECK(attempt(folder.path()).find("everybody may put files into") != std::string::npos);
  }
  SUBCASE("a group may write to it") {
    if (::getuid() == 0) REQUIRE(::chown(file.c_str(), 0, 100) == 0);
    ::chmod(file.c_str(), 0664);
    const std::string why = attempt(folder.path());
    if (::getuid() == 0) CHECK(why.find("chmod g-w") != std::string::npos);
    else fs::remove(folder.path() / "mark");  // the user's own group: allowed
  }
  SUBCASE("a link that leads out of the folder") {
    const PluginFolder other;
    const fs::path elsewhere = other.add("marker");
    fs::remove(file);
    fs::create_symlink(elsewhere, file);
    CHECK(attempt(folder.path()).find("a link that leads out of the folder, to " + elsewhere.string()) != std::string::npos);
  }
  SUBCASE("a link to a file that everybody may write to") {
    const PluginFolder other;
    const fs::path elsewhere = other.add("marker");
    ::chmod(elsewhere.c_str(), 0646);
    fs::create_symlink(elsewhere, folder.path() / "link.so");
    CHECK(attempt(folder.path() / "link.so").find("chmod o-w " + elsewhere.string()) != std::string::npos);
  }
  SUBCASE("links in a circle") {
    fs::remove(file);
    fs::create_symlink(folder.path() / "b.so", folder.path() / "a.so");
    fs::create_symlink(folder.path() / "a.so", folder.path() / "b.so");
    CHECK_FALSE(attempt(folder.path()).empty());
  }
  SUBCASE("a FIFO, which must not make us wait") {
    fs::remove(file);
    REQUIRE(::mkfifo(file.c_str(), 0644) == 0);
    CHECK(attempt(folder.path()).find("no plugin 'augment.marker'") != std::string::npos);
    CHECK(attempt(file).find("no plugin 'augment.marker'") != std::string::npos);
  }
  SUBCASE("a folder called like a plugin") {
    fs::remove(file);
    fs::create_directory(folder.path() / "augment.marker.so");
    CHECK(attempt(folder.path()).find("it is a folder") != std::string::npos);
  }
  SUBCASE("a library without a manifest") {
    fs::remove(file);
    static_cast<void>(folder.add("no_plugin", "augment.marker.so"));
    CHECK(attempt(folder.path()).find("it has no manifest") != std::string::npos);
  }
  SUBCASE("another version of the interface") {
    auto changed = bytes;
    const std::string magic = "SLUICEM1";
    const auto at = std::search(changed.begin(), changed.end(), magic.begin(), magic.end()) - changed.begin();
    changed[static_cast<std::size_t>(at) + 12] = 99;
    static_cast<void>(folder.write("marker.so", changed));
    fs::rename(file, folder.path() / "augment.marker.so");
    CHECK(attempt(folder.path()).find("version 99 of the plugin interface") != std::string::npos);
  }
  SUBCASE("a file that is cut") {
    auto changed = bytes;
    changed.resize(changed.size() / 2);
    fs::remove(file);
    static_cast<void>(folder.write("augment.marker.so", changed));
    CHECK(attempt(folder.path()).find("ends within") != std::string::npos);
  }
  SUBCASE("the current folder is never searched") {
    const Directory here(folder.path());
    Registry registry;
    CHECK_THROWS_WITH(static_cast<void>(registry.load("augment.marker")), doctest::Contains("there is no plugin"));
  }
  SUBCASE("the environment names no plugins") {
    ::setenv("LD_LIBRARY_PATH", folder.path().c_str(), 1);
    ::setenv("SLUICE_PLUGIN_PATH", folder.path().c_str(), 1);
    Registry registry;
    registry.add_builtin();
    CHECK_THROWS(static_cast<void>(registry.load("augment.marker")));
    ::unsetenv("LD_LIBRARY_PATH");
    ::unsetenv("SLUICE_PLUGIN_PATH");
  }
  SUBCASE("a bare name, a path and .. are no names of plugins") {
    const Directory here(folder.path());
    Registry registry;
    for (const char* name : {"marker.so", "./marker.so", "../marker.so", "marker"}) CHECK_THROWS(static_cast<void>(registry.load(name)));
    CHECK_THROWS(static_cast<void>(registry.load(file.string())));
    std::ofstream("p.toml") << "[data]\nplugin = \"../" << folder.path().filename().string() << "/marker.so\"\n";
    CHECK_THROWS_AS(static_cast<void>(load_pipeline("p.toml", {}, registry, Purpose::data)), PipelineError);
  }
  SUBCASE("a file swapped after it was listed") {
    Registry registry;
    registry.add_path(folder.path());
    fs::remove(file);
    fs::copy_file(fixture("twin"), file);
    CHECK_THROWS_WITH(static_cast<void>(registry.load("augment.marker")), doctest::Contains("was changed after it had been listed"));
  }
  SUBCASE("a file opened to everybody after it was listed") {
    Registry registry;
    registry.add_path(folder.path());
    ::chmod(file.c_str(), 0666);
    CHECK_THROWS_WITH(static_cast<void>(registry.load("augment.marker")), doctest::Contains("everybody may write"));
  }
  SUBCASE("a user's own path with a plugin not to be trusted hides a plugin of the same name") {
    const PluginFolder builtin;
    static_cast<void>(builtin.add("marker"));
    ::chmod(file.c_str(), 0646);
    Registry registry;
    registry.add_path(builtin.path());
    registry.add_path(folder.path());
    CHECK_THROWS_WITH(static_cast<void>(registry.load("augment.marker")), doctest::Contains("chmod o-w"));
  }
  CHECK_FALSE(mark.left());
}

// Catches loading by name after checking by descriptor: between the two a file can be put in its place.
TEST_CASE("what is loaded is the file that was checked, even when its name leads elsewhere by then") {
  const PluginFolder folder;
  const fs::path file = folder.add("two_in_one");
  const TrustedFile opened(file);
  const TrustedFile again(file);
  CHECK(opened.same_as(again));
  fs::remove(file);
  fs::copy_file(fixture("marker"), file);
  CHECK_FALSE(opened.same_as(TrustedFile(file)));
  // The path under which the descriptor is loaded leads to the old file.
  const auto through = fs::path("/proc/self/fd") / std::to_string(opened.fd());
  CHECK(bytes_of_file(through) == bytes_of_file(fixture("two_in_one")));
}
