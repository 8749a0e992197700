// Columns by their names, or in the order path, label, start, end where the first record names none.
#include "list_file.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>

#include <sluice/error.hpp>
#include <sluice/rng.hpp>

#include "delimited_file.hpp"

namespace sluice {
namespace {

constexpr std::size_t none = static_cast<std::size_t>(-1);

struct Columns {
  bool header = false;
  std::size_t count = 0;  // with a header: how many fields a record has
  std::size_t label = none, start = none, end = none, group = none;
  std::vector<std::pair<std::string, std::size_t>> paths, texts;  // stream, column
};

std::size_t column_of(const Record& header, const std::string& name) {
  const auto same = [&](const std::string& field) {
    return field.size() == name.size() && std::equal(field.begin(), field.end(), name.begin(), [](unsigned char a, unsigned char b) { return std::tolower(a) == std::tolower(b); });
  };
  const auto found = std::find_if(header.fields.begin(), header.fields.end(), same);
  return found == header.fields.end() ? none : static_cast<std::size_t>(found - header.fields.begin());
}

Columns columns_of(const Record& first, const ListFormat& format, const std::string& file) {
  Columns columns;
  const auto wanted = [&](const std::string& name) {
    const auto column = column_of(first, name);
    if (column == none) {
      std::string known;
      for (const auto& field : first.fields) known += (known.empty() ? "" : ", ") + field;
      throw Error(Code::configuration, "the list " + file + " has no column '" + name + "'", "its first line reads: " + known);
    }
    return column;
  };
  const bool named = !format.path_columns.empty() || !format.text_columns.empty() || !format.group_column.empty();
  columns.header = named || column_of(first, format.path_column) != none;
  if (!columns.header) {
    columns.paths = {{"clip", 0}};
    columns.label = 1, columns.start = 2, columns.end = 3;
    return columns;
  }
  columns.count = first.fields.size();
  if (format.path_columns.empty()) columns.paths = {{"clip", wanted(format.path_column)}};
  for (const auto& name : format.path_columns) columns.paths.emplace_back(name, wanted(name));
  for (const auto& name : format.text_columns) columns.texts.emplace_back(name, wanted(name));
  columns.label = column_of(first, format.label_column);
  columns.start = column_of(first, format.start_column);
  columns.end = column_of(first, format.end_column);
  if (!format.group_column.empty()) columns.group = wanted(format.group_column);
  if ((columns.start == none) != (columns.end == none)) throw Error(Code::configuration, "the list " + file + " has only one of the columns '" + format.start_column + "' and '" + format.end_column + "'");
  return columns;
}

// "a//b/./c/../d" -> "a/b/d"; most paths are plain and stay untouched.
std::string plain(const std::string& path) {
  if (path.find("//") == std::string::npos && path.find("./") == std::string::npos) return path;
  return std::filesystem::path(path).lexically_normal().string();
}

// A decimal point in every locale.
std::optional<double> number_of(const std::string& text) {
  double value = 0;
  const auto* begin = text.data() + (text.starts_with('+') ? 1 : 0);
  const auto [rest, error] = std::from_chars(begin, text.data() + text.size(), value);
  if (error != std::errc() || rest != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

const std::string& field_of(const Record& record, std::size_t column) {
  static const std::string empty;
  return column < record.fields.size() ? record.fields[column] : empty;
}

// Start and end of the piece, or what is wrong with them.
void read_piece(const std::string& start, const std::string& end, ListedVideo& video) {
  if (start.empty() && end.empty()) return;
  const auto from = number_of(start), to = number_of(end);
  if (start.empty() || end.empty()) video.problem = "a piece needs both start and end";
  else if (!from || !to) video.problem = "'" + (from ? end : start) + "' is no number";
  else if (*from < 0 || *to <= *from) video.problem = "the piece from " + start + " to " + end + " is empty";
  else video.piece = true, video.start = *from, video.end = *to;
}

void read_video(const Record& record, const Columns& columns, const std::string& root, ListedVideo& video) {
  video.problem.clear();
  video.piece = false;
  video.start = video.end = 0;
  video.streams.resize(columns.paths.size() + columns.texts.size());
  video.paths = columns.paths.size();
  video.key.clear();
  std::size_t at = 0;
  for (const auto& [stream, column] : columns.paths) {
    const auto path = plain(field_of(record, column));
    video.streams[at].first = stream;
    video.streams[at++].second = path.starts_with('/') ? path : root + path;
    if (!video.key.empty()) video.key += '\n';
    video.key += path;
    if (path.empty() && video.problem.empty()) video.problem = "no path" + (columns.paths.size() > 1 ? " for '" + stream + "'" : std::string());
  }
  for (const auto& [stream, column] : columns.texts) video.streams[at].first = stream, video.streams[at++].second = field_of(record, column);
  video.label = field_of(record, columns.label);
  video.group = field_of(record, columns.group);
  const auto count = record.fields.size();
  if (columns.header && count > columns.count) video.problem = "it has " + std::to_string(count) + " fields, and the first line " + std::to_string(columns.count);
  if (!columns.header && (count == 3 || count > 4))
    video.problem = "it has " + std::to_string(count) + " fields where path, path and label, or path, label, start and end are expected: put a path with spaces or separators into quotes, or name the columns in a first line";
  if (video.problem.empty()) read_piece(field_of(record, columns.start), field_of(record, columns.end), video);
}

}  // namespace

std::string problem_with(const std::string& path) {
  if (path.find('\0') != std::string::npos) return "the path holds a zero byte";
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return path + ": " + std::strerror(errno);
  if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) return path + ": it is " + (S_ISFIFO(status.st_mode) ? "a pipe" : "no regular file") + ", not a video";
  if (S_ISREG(status.st_mode) && status.st_size == 0) return path + ": the file is empty";
  return {};
}

std::uint64_t identity_of(const std::string& path) {
  struct stat status{};
  if (path.find('\0') != std::string::npos || ::stat(path.c_str(), &status) != 0) return 0;
  return mix_bits(mix_bits(status.st_dev) ^ status.st_ino);
}

VideoList open_list(const std::string& file, const ListFormat& format) {
  const char separator = format.separator != 0 ? format.separator : DelimitedFile::guess_separator(file);
  Record first;
  if (!DelimitedFile(file, separator).next(first)) throw Error(Code::data, "the list " + file + " is empty", "one line for each video: path, label");
  const auto columns = std::make_shared<const Columns>(columns_of(first, format, file));
  auto root = format.root;
  if (root.empty()) root = std::filesystem::path(file).parent_path().string();
  if (!root.empty() && !root.ends_with('/')) root += '/';
  const auto name = std::filesystem::path(file).filename().string();
  return [=](const std::function<void(const ListedVideo&)>& give) {
    DelimitedFile records(file, separator);
    Record record;
    ListedVideo video;
    if (columns->header) records.next(record);
    while (records.next(record)) {
      read_video(record, *columns, root, video);
      video.origin = name + ":" + std::to_string(record.line);
      video.progress = records.fraction_read();
      give(video);
    }
  };
}

}  // namespace sluice
