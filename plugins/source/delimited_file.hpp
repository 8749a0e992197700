// Reads records of fields from a text file, one at a time, in constant memory: csv (RFC 4180), tab- or space-separated.
//
//   DelimitedFile file("list.csv", ',');
//   for (Record record; file.next(record);) use(record.line, record.fields);
//
// UTF-8 with or without a byte order mark, any line ending, "" for a quote inside of quotes, line breaks inside of quotes.
// Empty lines and lines that begin with # are left out. Spaces round an unquoted field do not belong to it. Bytes are kept
// as they are: names need not be UTF-8.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sluice {

struct Record {
  std::int64_t line = 0;  // where it begins, from 1
  std::vector<std::string> fields;
};

class DelimitedFile {
 public:
  // `separator` is a byte, or ' ' for any run of spaces and tabs. Throws sluice::Error when the file is none that can be
  // read: missing, a folder, a pipe, without permission.
  DelimitedFile(std::string path, char separator);

  // What separates fields, by the first record: tab, else comma, else semicolon; where none is in it, ',' for a name that
  // ends in .csv and else ' '.
  static char guess_separator(const std::string& path);

  // False at the end. Throws sluice::Error with path:line: quotes that do not close, text behind a closing quote, a zero
  // byte, a record above 1 MiB, a disk that fails.
  bool next(Record& record);

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] double fraction_read() const { return size_ == 0 ? 1.0 : static_cast<double>(read_) / static_cast<double>(size_); }

 private:
  static constexpr int end_of_file = -1;
  struct Descriptor {
    int number = -1;
    Descriptor() = default;
    ~Descriptor();
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
  };

  void open();
  int peek();
  int take();
  void skip_line();
  void skip_blanks();
  bool skip_to_record();
  bool ends_field(int byte) const;
  void read_field(std::string& field, std::int64_t line);
  void read_quoted(std::string& field, std::int64_t line);
  void grow(std::string& field, int byte, std::int64_t line);
  [[noreturn]] void fail(std::int64_t line, const std::string& what, const std::string& hint = {}) const;

  std::string path_;
  char separator_;
  Descriptor file_;
  std::uint64_t size_ = 0, read_ = 0;
  std::vector<char> buffer_;
  std::size_t at_ = 0, end_ = 0;
  std::int64_t line_ = 1;
  std::size_t record_bytes_ = 0;
};

}  // namespace sluice
