// A reader of one byte after the other over a buffer; see the header for what it accepts.
#include "delimited_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include <sluice/error.hpp>

namespace sluice {
namespace {
constexpr std::size_t buffer_bytes = 256 * 1024;
constexpr std::size_t most_record_bytes = 1024 * 1024;
bool is_blank(int byte) { return byte == ' ' || byte == '\t'; }
}  // namespace

DelimitedFile::Descriptor::~Descriptor() {
  if (number >= 0) ::close(number);
}

DelimitedFile::DelimitedFile(std::string path, char separator) : path_(std::move(path)), separator_(separator), buffer_(buffer_bytes) {
  open();
  peek();
  const auto starts_with = [&](std::string_view bytes) { return std::string_view(buffer_.data(), end_).starts_with(bytes); };
  if (starts_with("\xFF\xFE") || starts_with("\xFE\xFF")) throw Error(Code::data, "the list " + path_ + " is UTF-16", "save it as UTF-8");
  if (starts_with("\xEF\xBB\xBF")) at_ = 3;  // a byte order mark, which is no part of the first field
}

void DelimitedFile::open() {
  const auto refuse = [&](const std::string& why, const std::string& hint = {}) { throw Error(Code::data, "cannot read the list " + path_ + ": " + why, hint); };
  struct stat status{};
  if (::stat(path_.c_str(), &status) != 0) refuse(std::strerror(errno));
  if (S_ISDIR(status.st_mode)) refuse("it is a folder", "for a folder that holds a folder for each class set path to it");
  if (!S_ISREG(status.st_mode)) refuse(S_ISFIFO(status.st_mode) ? "it is a pipe" : "it is no regular file", "write the list into a file: it is read twice");
  file_.number = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (file_.number < 0) refuse(std::strerror(errno));
  size_ = static_cast<std::uint64_t>(status.st_size);
}

void DelimitedFile::fail(std::int64_t line, const std::string& what, const std::string& hint) const {
  throw Error(Code::data, what, hint, path_ + ":" + std::to_string(line));
}

int DelimitedFile::peek() {
  if (at_ == end_) {
    ssize_t got = 0;
    do got = ::read(file_.number, buffer_.data(), buffer_.size());
    while (got < 0 && errno == EINTR);
    if (got < 0) throw Error(Code::io, "cannot read the list " + path_ + ": " + std::strerror(errno));
    at_ = 0;
    end_ = static_cast<std::size_t>(got);
    read_ += end_;
    if (got == 0) return end_of_file;
  }
  return static_cast<unsigned char>(buffer_[at_]);
}

int DelimitedFile::take() {
  const int byte = peek();
  if (byte != end_of_file) ++at_;
  return byte;
}

// Takes what is left of the line, and its end: \n, \r\n or a \r alone.
void DelimitedFile::skip_line() {
  for (int byte = take(); byte != end_of_file; byte = take())
    if (byte == '\n' || byte == '\r') {
      if (byte == '\r' && peek() == '\n') take();
      ++line_;
      return;
    }
}

void DelimitedFile::skip_blanks() {
  while (peek() == ' ' || (peek() == '\t' && separator_ != '\t')) take();
}

// To the first byte of the next record; false when there is none.
bool DelimitedFile::skip_to_record() {
  for (;;) {
    skip_blanks();
    const int byte = peek();
    if (byte == end_of_file) return false;
    if (byte != '\n' && byte != '\r' && byte != '#') return true;
    skip_line();
  }
}

bool DelimitedFile::ends_field(int byte) const {
  return byte == end_of_file || byte == '\n' || byte == '\r' || (separator_ == ' ' ? is_blank(byte) : byte == static_cast<unsigned char>(separator_));
}

void DelimitedFile::grow(std::string& field, int byte, std::int64_t line) {
  if (byte == 0) fail(line_, "the list holds a zero byte", "a list is plain text: UTF-8, not UTF-16");
  if (++record_bytes_ > most_record_bytes) fail(line, "a record of more than 1 MiB begins here", "is a closing quote missing?");
  field += static_cast<char>(byte);
}

void DelimitedFile::read_quoted(std::string& field, std::int64_t line) {
  for (take();;) {
    const int byte = take();
    if (byte == end_of_file) fail(line, "a quote opens here and never closes");
    if (byte == '"') {
      if (peek() != '"') break;
      take();
    }
    if (byte == '\n' || (byte == '\r' && peek() != '\n')) ++line_;
    grow(field, byte, line);
  }
  if (separator_ != ' ') skip_blanks();
  if (!ends_field(peek())) fail(line_, "text behind a closing quote", "write a quote inside of quotes twice: \"\"");
}

void DelimitedFile::read_field(std::string& field, std::int64_t line) {
  field.clear();
  skip_blanks();
  if (peek() == '"') {
    read_quoted(field, line);
    return;
  }
  while (!ends_field(peek())) grow(field, take(), line);
  while (!field.empty() && is_blank(field.back())) field.pop_back();
}

bool DelimitedFile::next(Record& record) {
  if (!skip_to_record()) return false;
  record.line = line_;
  record_bytes_ = 0;
  std::size_t count = 0;
  for (bool more = true; more;) {
    if (count == record.fields.size()) record.fields.emplace_back();
    read_field(record.fields[count++], record.line);
    if (separator_ == ' ') {  // a run of blanks separates; at the end of the line it is nothing
      skip_blanks();
      more = peek() != end_of_file && peek() != '\n' && peek() != '\r';
    } else {
      more = peek() == static_cast<unsigned char>(separator_);
      if (more) take();
    }
  }
  record.fields.resize(count);
  skip_line();
  return true;
}

char DelimitedFile::guess_separator(const std::string& path) {
  DelimitedFile file(path, ',');
  bool quoted = false, comma = false, semicolon = false;
  if (file.skip_to_record())
    for (std::size_t bytes = 0; bytes < most_record_bytes; ++bytes) {
      const int byte = file.take();
      if (byte == '"') quoted = !quoted;
      if (quoted && byte != end_of_file) continue;
      if (byte == end_of_file || byte == '\n' || byte == '\r') break;
      if (byte == '\t') return '\t';
      comma = comma || byte == ',';
      semicolon = semicolon || byte == ';';
    }
  return comma ? ',' : semicolon ? ';' : path.ends_with(".csv") ? ',' : ' ';
}

}  // namespace sluice
