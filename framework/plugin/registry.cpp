// The list of plugins and where they come from.
#include "framework/plugin/registry.hpp"

#include <algorithm>
#include <cstring>
#include <deque>
#include <set>

#include <fmt/format.h>
#include <sys/stat.h>

#include <sluice/error.hpp>

#include "framework/base/strings.hpp"
#include "framework/plugin/elf.hpp"
#include "framework/plugin/installation.hpp"
#include "framework/plugin/library.hpp"
#include "framework/plugin/trust.hpp"

namespace sluice {

namespace fs = std::filesystem;

namespace {

std::string text_of(const Error& error) { return error.hint().empty() ? error.message() : error.message() + ". " + error.hint(); }

std::vector<std::pair<std::string, std::string>> fields_of(const std::string& fingerprint) {
  std::vector<std::pair<std::string, std::string>> fields;
  for (const auto& part : split(fingerprint, ';')) {
    const auto equals = part.find('=');
    if (!part.empty()) fields.emplace_back(part.substr(0, equals), equals == std::string::npos ? "" : part.substr(equals + 1));
  }
  return fields;
}

std::string field_meaning(const std::string& name) {
  if (name == "training") return "version of the training interface";
  if (name == "sdk") return "version of sluice's SDK";
  if (name == "torch") return "version of LibTorch";
  if (name == "cxx11abi" || name == "abi") return "ABI of the C++ library (_GLIBCXX_USE_CXX11_ABI)";
  if (name == "ndebug") return "NDEBUG, on which the layout of LibTorch's classes depends";
  return "build setting '" + name + "'";
}

}  // namespace

struct Registry::Impl {
  struct File {
    fs::path path;
    std::vector<abi::Manifest> manifests;
    const abi::PluginTable* table = nullptr;  // from the moment it is loaded
  };
  struct Entry {
    File* file;
    const abi::Manifest* manifest;
    std::size_t path;  // number of the add_path() that brought it
  };
  std::deque<File> files;  // addresses stay
  std::map<std::string, Entry> by_name;
  std::map<std::string, std::string> refused_names;
  std::vector<std::pair<fs::path, std::string>> refused;
  std::vector<std::string> searched;
  std::size_t paths = 0;
  std::string fingerprint;
  std::string rebuild;

  void refuse(const fs::path& file, const std::string& why, const std::vector<std::string>& names) {
    refused.emplace_back(file, why);
    refused_names[file.stem().string()] = file.string() + ": " + why;  // augment.blur.so is where augment.blur would be
    for (const auto& name : names) {
      refused_names[name] = file.string() + ": " + why;
      by_name.erase(name);  // a plugin of the same name from an earlier path is not what was asked for
    }
  }

  void add_file(const fs::path& path) {
    File file{path, {}, nullptr};
    try {
      const TrustedFile opened(path);
      file.manifests = read_manifests(FileBytes(opened.fd()));
    } catch (const Error& error) {
      return refuse(path, text_of(error), names_in_untrusted(path));
    }
    add_names(files.emplace_back(std::move(file)));
  }

  // Which plugins a refused file would hold, so that whoever asks for one of them learns why it is not there. Reads, runs nothing.
  static std::vector<std::string> names_in_untrusted(const fs::path& path) {
    std::vector<std::string> names;
    std::error_code error;
    if (!fs::is_regular_file(path, error)) return names;
    struct Open {
      std::FILE* file;
      ~Open() {
        if (file) std::fclose(file);
      }
    } const open{std::fopen(path.c_str(), "rbe")};
    if (!open.file) return names;
    try {
      for (const auto& manifest : read_manifests(FileBytes(::fileno(open.file)))) names.emplace_back(manifest.name);
    } catch (const Error&) {  // no plugin: it has no names
    }
    return names;
  }

  void add_names(File& file) {
    for (const abi::Manifest& manifest : file.manifests) {
      if (twice_here.contains(manifest.name)) {
        refused.emplace_back(file.path, fmt::format("{}: {}", manifest.name, refused_names[manifest.name]));
        continue;
      }
      const auto there = by_name.find(manifest.name);
      if (there != by_name.end() && there->second.path == paths && there->second.file->path != file.path) {
        const std::string why = fmt::format("{} and {} both hold it: remove one of them", there->second.file->path.string(), file.path.string());
        refused.emplace_back(file.path, fmt::format("{}: {}", manifest.name, why));
        refused_names[manifest.name] = why;
        twice_here.insert(manifest.name);
        by_name.erase(there);
        continue;
      }
      refused_names.erase(manifest.name);
      by_name[manifest.name] = {&file, &manifest, paths};
    }
  }
  std::set<std::string> twice_here;  // names that two files of the present path hold
};

Registry::Registry() : impl_(std::make_unique<Impl>()) {}
Registry::~Registry() = default;
Registry::Registry(Registry&&) noexcept = default;
Registry& Registry::operator=(Registry&&) noexcept = default;

void Registry::add_path(const fs::path& given) {
  Impl& impl = *impl_;
  const fs::path path = fs::absolute(given).lexically_normal();
  impl.searched.push_back(path.string());
  ++impl.paths;
  impl.twice_here.clear();
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0)
    throw Error(Code::configuration, fmt::format("there is no {}: {}", in_quotes(path.string()), std::strerror(errno)), "name a folder of plugins, or one file");
  if (!S_ISDIR(status.st_mode)) return impl.add_file(path);

  if (status.st_mode & S_IWOTH)
    throw Error(Code::plugin, fmt::format("everybody may put files into {}, so they may hold anybody's code", in_quotes(path.string())), fmt::format("chmod o-w {}", path.string()));
  std::vector<fs::path> candidates;
  std::error_code error;
  for (fs::directory_iterator at(path, error), end; !error && at != end; at.increment(error))
    if (at->path().extension() == ".so") candidates.push_back(at->path());
  if (error) throw Error(Code::configuration, fmt::format("{} cannot be read: {}", in_quotes(path.string()), error.message()), "check its permissions");
  std::sort(candidates.begin(), candidates.end());

  const fs::path root = fs::canonical(path, error);
  for (const fs::path& file : candidates) {
    if (fs::is_symlink(file, error)) {
      const fs::path target = fs::weakly_canonical(file, error);
      if (error || std::mismatch(root.begin(), root.end(), target.begin(), target.end()).first != root.end()) {
        impl.refuse(file, fmt::format("it is a link that leads out of the folder, to {}: name that file itself in [plugins] path", target.string()), Impl::names_in_untrusted(file));
        continue;
      }
    }
    impl.add_file(file);
  }
}

void Registry::add_builtin() {
  const fs::path folder = library_folder() / "sluice" / "plugins";
  std::error_code error;
  if (fs::is_directory(folder, error)) add_path(folder);
}

Registry::Found Registry::find(const std::string& name) const {
  const auto at = impl_->by_name.find(name);
  if (at == impl_->by_name.end()) return {};
  return {at->second.manifest, at->second.file->path};
}

std::vector<Registry::Found> Registry::all() const {
  std::vector<Found> out;
  for (const auto& [name, entry] : impl_->by_name) out.push_back({entry.manifest, entry.file->path});
  return out;
}

const std::vector<std::pair<fs::path, std::string>>& Registry::refused() const { return impl_->refused; }

std::vector<std::string> Registry::suggestions(const std::string& name) const { return nearest(name, names()); }

std::vector<std::string> Registry::names(abi::Kind kind) const {
  std::vector<std::string> out;
  for (const auto& [name, entry] : impl_->by_name)
    if (entry.manifest->kind == static_cast<std::uint32_t>(kind)) out.push_back(name);
  return out;
}

std::vector<std::string> Registry::names() const {
  std::vector<std::string> out;
  for (const auto& [name, entry] : impl_->by_name) out.push_back(name);
  return out;
}

std::string Registry::refusal(const std::string& name) const {
  const auto at = impl_->refused_names.find(name);
  return at == impl_->refused_names.end() ? std::string() : at->second;
}

std::vector<std::string> Registry::refusals() const {
  std::vector<std::string> out;
  for (const auto& [file, why] : impl_->refused) out.push_back(fmt::format("{}: {}", file.string(), why));
  return out;
}

std::vector<std::string> Registry::searched() const { return impl_->searched; }

void Registry::expect_fingerprint(std::string fingerprint, std::string rebuild) {
  impl_->fingerprint = std::move(fingerprint);
  impl_->rebuild = std::move(rebuild);
}

std::string fingerprint_difference(const std::string& expected, const std::string& found) {
  const auto wanted = fields_of(expected), given = fields_of(found);
  const auto value_in = [](const auto& fields, const std::string& name) {
    for (const auto& [key, value] : fields)
      if (key == name) return value.empty() ? std::string("(empty)") : value;
    return std::string("(nothing)");
  };
  for (const auto& [name, value] : wanted)
    if (const std::string other = value_in(given, name); other != (value.empty() ? "(empty)" : value))
      return fmt::format("{}: expected {}, found {}", field_meaning(name), value, other);
  for (const auto& [name, value] : given)
    if (value_in(wanted, name) == "(nothing)") return fmt::format("{}: expected (nothing), found {}", field_meaning(name), value);
  return {};
}

const abi::Descriptor& Registry::load(const std::string& name) {
  Impl& impl = *impl_;
  const auto at = impl.by_name.find(name);
  if (at == impl.by_name.end()) {
    const std::string why = refusal(name);
    const auto near = suggestions(name);
    throw Error(Code::plugin, why.empty() ? fmt::format("there is no plugin {}", in_quotes(name)) : fmt::format("the plugin {} is refused: {}", in_quotes(name), why),
                near.empty() ? "" : "did you mean " + join(near, " or ") + "?");
  }
  Impl::File& file = *at->second.file;
  const abi::Manifest& manifest = *at->second.manifest;
  const std::string where = fmt::format("{} ({})", name, file.path.string());
  try {
    if (manifest.fingerprint[0] != 0) {
      if (impl.fingerprint.empty()) throw Error(Code::plugin, "it needs LibTorch, which this command does not load");
      if (const std::string difference = fingerprint_difference(impl.fingerprint, manifest.fingerprint); !difference.empty())
        throw Error(Code::plugin, "it was built for another installation. " + difference, impl.rebuild);
    }
    if (!file.table) {
      TrustedFile opened(file.path);
      const auto manifests = read_manifests(FileBytes(opened.fd()));
      const bool same = manifests.size() == file.manifests.size() &&
                        std::memcmp(manifests.data(), file.manifests.data(), manifests.size() * sizeof(abi::Manifest)) == 0;
      if (!same) throw Error(Code::plugin, "the file was changed after it had been listed", "start again");
      file.table = &load_library(std::move(opened), file.manifests);
    }
  } catch (const Error& error) {
    throw error.at(where);
  }
  for (auto entry = file.table->begin; entry != file.table->end; ++entry)
    if (name == (*entry)->manifest->name) return **entry;
  throw Error(Code::plugin, "its table does not hold it", {}, where);
}

}  // namespace sluice
