// Reads TOML with toml++, after the checks that keep a hostile file from reaching its recursion.
// TOML_ASSERT is empty and NDEBUG not needed for it: toml++'s assertions are reachable from input, and with NDEBUG they would
// turn into promises to the optimiser.
#define TOML_ASSERT(condition) static_cast<void>(0)
#ifdef NDEBUG
#undef NDEBUG
#endif
#include <toml++/toml.h>

#include "framework/config/toml.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <tuple>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sluice/error.hpp>

#include "framework/base/bytes.hpp"
#include "framework/base/strings.hpp"

namespace sluice {
namespace {

[[noreturn]] void refuse(const std::string& name, int line, int column, std::string what, std::string hint = {}) {
  throw Error(Code::configuration, std::move(what), std::move(hint), fmt::format("{}:{}:{}", name, line, column));
}

struct Position {
  int line = 1;
  int column = 1;
};

// Of a byte offset; columns count characters, as toml++ does.
Position position_of(std::string_view text, std::size_t offset) {
  Position at;
  for (std::size_t i = 0; i < std::min(offset, text.size()); ++i) {
    if (text[i] == '\n') at = {at.line + 1, 1};
    else if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80) ++at.column;
  }
  return at;
}

std::size_t offset_of(std::string_view text, Position at) {
  std::size_t i = 0;
  for (int line = 1; line < at.line && i < text.size(); ++i)
    if (text[i] == '\n') ++line;
  for (int column = 1; i < text.size() && text[i] != '\n'; ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0) == 0x80) continue;
    if (column++ == at.column) break;
  }
  return i;
}

void check_encoding(std::string_view text, const std::string& name) {
  if (text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF")) refuse(name, 1, 1, "the file is UTF-16", "save it as UTF-8");
  if (const auto bad = first_bad_utf8(text)) {
    const Position at = position_of(text, *bad);
    refuse(name, at.line, at.column, fmt::format("the byte 0x{:02x} is not UTF-8", static_cast<unsigned char>(text[*bad])),
           "save the file as UTF-8");
  }
  if (const auto zero = text.find('\0'); zero != std::string_view::npos) {
    const Position at = position_of(text, zero);
    refuse(name, at.line, at.column, "a zero byte", "is it a text file?");
  }
}

// Where a string that starts at `i` ends: the offset after its closing quotes, or the end of the line (of the text) where it is open.
std::size_t end_of_string(std::string_view text, std::size_t i) {
  const char quote = text[i];
  const std::string_view triple = quote == '"' ? "\"\"\"" : "'''";
  if (text.substr(i).starts_with(triple)) {
    for (i += 3; i < text.size(); ++i) {
      if (quote == '"' && text[i] == '\\') ++i;
      else if (text.substr(i).starts_with(triple)) {
        for (i += 3; i < text.size() && text[i] == quote;) ++i;
        return i;
      }
    }
    return text.size();
  }
  for (++i; i < text.size() && text[i] != '\n'; ++i) {
    if (quote == '"' && text[i] == '\\') ++i;
    else if (text[i] == quote) return i + 1;
  }
  return std::min(i, text.size());
}

// toml++ recurses over dotted keys and nested values: refuse what would overflow its stack.
void check_depth(std::string_view text, const std::string& name) {
  int dots = 0, open = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    switch (text[i]) {
      case '#': i = std::min(text.find('\n', i), text.size()) - 1; break;
      case '"':
      case '\'': i = end_of_string(text, i) - 1; break;
      case '.':
        if (++dots >= deepest_toml_key) {
          const Position at = position_of(text, i);
          refuse(name, at.line, at.column, fmt::format("the key has more than {} parts", deepest_toml_key), "no key of a pipeline is that deep");
        }
        break;
      case '[':
      case '{':
        dots = 0;
        if (++open > deepest_toml_nesting) {
          const Position at = position_of(text, i);
          refuse(name, at.line, at.column, fmt::format("lists and tables are nested more than {} deep", deepest_toml_nesting));
        }
        break;
      case ']':
      case '}': --open; [[fallthrough]];
      case '=':
      case ',': dots = 0; break;
      case '\n':
        dots = 0;
        if (open < 0) open = 0;
        break;
      default: break;
    }
  }
}

class Converter {
 public:
  Converter(const std::string& name, int layer) : name_(name), layer_(layer) {}

  Table table(const toml::table& from) const {
    Table out;
    for (const auto& [key, node] : from) out.push_back({std::string(key.str()), place(key.source()), value(node)});
    std::stable_sort(out.begin(), out.end(), [](const Member& a, const Member& b) {
      return std::tie(a.place.line, a.place.column) < std::tie(b.place.line, b.place.column);
    });
    return out;
  }

  Value value(const toml::node& node) const {
    const Place at = place(node.source());
    if (const auto* text = node.as_string()) return {text->get(), at};
    if (const auto* number = node.as_integer()) return {number->get(), at};
    if (const auto* real = node.as_floating_point()) return {real->get(), at};
    if (const auto* truth = node.as_boolean()) return {truth->get(), at};
    if (const auto* below = node.as_table()) return {table(*below), at};
    if (const auto* array = node.as_array()) {
      List list;
      for (const auto& item : *array) list.push_back(value(item));
      return {std::move(list), at};
    }
    throw Error(Code::configuration, "dates and times have no use in a pipeline", "write it as text, in quotes", at.text());
  }

 private:
  Place place(const toml::source_region& source) const {
    return {name_, static_cast<int>(source.begin.line), static_cast<int>(source.begin.column), layer_};
  }
  const std::string& name_;
  int layer_;
};

// The parser stops behind a number or a value; people want to see where it starts.
Position start_of(std::string_view text, Position at, std::string_view what) {
  const std::size_t reported = offset_of(text, at);
  std::size_t i = reported;
  if (what.find("key-value pair: cannot redefine") != std::string_view::npos) {
    while (i > 0 && text[i - 1] != '\n' && text[i - 1] != '{' && text[i - 1] != ',') --i;
    while (i < reported && (text[i] == ' ' || text[i] == '\t')) ++i;
    return position_of(text, i);
  }
  if (what.find("integer") != std::string_view::npos || what.find("floating-point") != std::string_view::npos ||
      what.find("boolean") != std::string_view::npos) {
    while (i > 0 && std::string_view(" \t\r\n=,[{").find(text[i - 1]) == std::string_view::npos) --i;
    return position_of(text, i);
  }
  return at;
}

std::string word_at(std::string_view text, Position at) {
  const std::size_t begin = offset_of(text, at);
  return std::string(text.substr(begin, std::min(text.find_first_of(" \t\r\n,]}#=", begin), text.size()) - begin));
}

std::string hint_for(std::string_view text, Position at, std::string_view what) {
  const std::string word = word_at(text, at);
  const std::string low = lower(word);
  if (what.find("cannot redefine") != std::string_view::npos) return "every key and every [section] stands once; [[stage]] and [[metric]] may stand several times";
  if (what.find("escape sequence") != std::string_view::npos) return "in \"...\" a backslash begins an escape: write '...' or double it";
  if (low == "true" || low == "false" || low == "yes" || low == "no" || low == "on" || low == "off") return "truth is written true or false, in lower case";
  if (low == "none" || low == "null" || low == "~") return "there is no empty value: leave the key out, or write \"auto\" where the key allows it";
  if (what.find("expected '='") != std::string_view::npos && text.substr(offset_of(text, at)).starts_with(":")) return "TOML writes key = value";
  const bool value_expected = what.find("boolean") != std::string_view::npos || what.find("integer") != std::string_view::npos ||
                              what.find("floating-point") != std::string_view::npos || what.find("expected value") != std::string_view::npos ||
                              what.find("could not determine value type") != std::string_view::npos;
  if (value_expected && !word.empty() && word.find_first_of("[{\"'") == std::string::npos) return fmt::format("text needs quotes: \"{}\"", word);
  return {};
}

// In the words of this project; the place says where.
std::string message_for(std::string_view text, Position at, std::string_view what) {
  const std::size_t offset = offset_of(text, at);
  const bool line_ends = offset >= text.size() || text[offset] == '\n' || text[offset] == '\r';
  if (line_ends && what.find("control characters") != std::string_view::npos) return "the text has no closing quote on its line";
  if (what.find("could not determine value type") != std::string_view::npos) return "this is no value";
  // "Error while parsing key-value pair: cannot ..." -> "cannot ..."
  if (what.starts_with("Error while parsing")) {
    const auto colon = what.find(": ");
    if (colon != std::string_view::npos) what.remove_prefix(colon + 2);
  }
  const std::string inside = in_quotes(what);
  return inside.substr(1, inside.size() - 2);
}

struct File {
  explicit File(int opened) : fd(opened) {}
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (fd >= 0) ::close(fd);
  }
  int fd;
};

std::string neighbours(const std::filesystem::path& file) {
  std::vector<std::string> known;
  std::error_code ignored;
  const auto folder = file.has_parent_path() ? file.parent_path() : std::filesystem::path(".");
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored))
    if (entry.path().extension() == ".toml" && known.size() < 1000) known.push_back(entry.path().filename().string());
  const auto found = nearest(file.filename().string(), known);
  return found.empty() ? std::string() : "did you mean " + (folder == "." ? found[0] : (folder / found[0]).string()) + "?";
}

}  // namespace

Table parse_toml(std::string_view text, const std::string& name, int layer) {
  check_encoding(text, name);
  check_depth(text, name);
  try {
    const toml::table parsed = toml::parse(text, std::string_view(name));
    return Converter(name, layer).table(parsed);
  } catch (const toml::parse_error& error) {
    const std::string_view what = error.description();
    const Position reported{static_cast<int>(error.source().begin.line), static_cast<int>(error.source().begin.column)};
    const Position at = start_of(text, reported, what);
    refuse(name, at.line, at.column, message_for(text, at, what), hint_for(text, at, what));
  }
}

Table read_toml(const std::filesystem::path& file, const std::string& name, int layer) {
  const File opened(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (opened.fd < 0) {
    const int cause = errno;
    if (cause == ENOENT || cause == ENOTDIR) throw Error(Code::configuration, "there is no such file", neighbours(file), name);
    throw Error(Code::io, fmt::format("cannot be opened: {}", std::strerror(cause)), "check its permissions", name);
  }
  struct stat status {};
  if (::fstat(opened.fd, &status) != 0) throw Error(Code::io, std::strerror(errno), {}, name);
  if (S_ISDIR(status.st_mode)) throw Error(Code::configuration, "is a folder, not a pipeline file", "name the .toml file in it", name);
  if (!S_ISREG(status.st_mode)) throw Error(Code::configuration, "is no regular file", "a pipeline is read from a file on disk", name);
  if (static_cast<std::uint64_t>(status.st_size) > largest_toml_file)
    throw Error(Code::configuration, fmt::format("has {}, more than a pipeline may have ({})", format_bytes(static_cast<std::uint64_t>(status.st_size)), format_bytes(largest_toml_file)),
                "lists of samples belong in a file of their own, which [data] names", name);
  std::string text(largest_toml_file + 1, '\0');
  std::size_t used = 0;
  while (used < text.size()) {
    const ssize_t n = ::read(opened.fd, text.data() + used, text.size() - used);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw Error(Code::io, fmt::format("cannot be read: {}", std::strerror(errno)), {}, name);
    if (n == 0) break;
    used += static_cast<std::size_t>(n);
  }
  text.resize(used);
  return parse_toml(text, name, layer);
}

std::optional<Value> parse_toml_value(std::string_view text, const Place& place) {
  if (text.find_first_of("\n\r") != std::string_view::npos) return std::nullopt;
  const std::string line = "v = " + std::string(text);
  try {
    if (first_bad_utf8(line)) return std::nullopt;
    check_depth(line, "");
    const toml::table parsed = toml::parse(line);
    if (parsed.size() != 1) return std::nullopt;
    Value value = Converter(place.file, place.layer).value(parsed.begin()->second);
    struct Everywhere {
      const Place& place;
      void operator()(Value& at) const {
        at.place = place;
        if (auto* list = std::get_if<List>(&at.data)) std::for_each(list->begin(), list->end(), *this);
        if (auto* table = std::get_if<Table>(&at.data))
          for (Member& member : *table) {
            member.place = place;
            (*this)(member.value);
          }
      }
    };
    Everywhere{place}(value);
    return value;
  } catch (const toml::parse_error&) {
    return std::nullopt;
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace sluice
