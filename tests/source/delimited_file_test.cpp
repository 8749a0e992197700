// The reader of lists against RFC 4180 and against files as people really have them.
#include <doctest/doctest.h>

#include <sys/stat.h>

#include <fstream>

#include "../../plugins/source/delimited_file.hpp"
#include "../support/scratch_folder.hpp"

#include <sluice/error.hpp>

using namespace sluice;
using testing::ScratchFolder;

namespace {

using Rows = std::vector<std::pair<std::int64_t, std::vector<std::string>>>;

class Written {
 public:
  explicit Written(const std::string& bytes, const std::string& name = "list.csv") : path_((folder_.path() / name).string()) { std::ofstream(path_, std::ios::binary) << bytes; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  ScratchFolder folder_;
  std::string path_;
};
Rows rows_of(const std::string& bytes, char separator = ',') {
  const Written file(bytes);
  DelimitedFile reader(file.path(), separator);
  Rows rows;
  for (Record record; reader.next(record);) rows.emplace_back(record.line, record.fields);
  CHECK(reader.fraction_read() == 1.0);
  return rows;
}
std::string error_of(const std::string& bytes, char separator = ',') {
  const Written file(bytes);
  try {
    DelimitedFile reader(file.path(), separator);
    for (Record record; reader.next(record);) {}
  } catch (const Error& error) {
    CHECK(error.code() == Code::data);
    const auto name = error.where().find("list.csv:");
    return (name == std::string::npos ? "" : error.where().substr(name) + ": ") + error.message();
  }
  return {};
}

}  // namespace

TEST_CASE("RFC 4180: quotes, doubled quotes, separators and line breaks inside of quotes") {
  CHECK(rows_of("a,b\nc,d\n") == Rows{{1, {"a", "b"}}, {2, {"c", "d"}}});
  CHECK(rows_of("a,b\r\nc,d") == Rows{{1, {"a", "b"}}, {2, {"c", "d"}}});
  CHECK(rows_of("\"a,b\",\"c \"\"d\"\"\"\n") == Rows{{1, {"a,b", "c \"d\""}}});
  CHECK(rows_of("\"a\nb\r\nc\",d\ne,f\n") == Rows{{1, {"a\nb\r\nc", "d"}}, {4, {"e", "f"}}});
  CHECK(rows_of("a,,\n,\n\"\",x\n") == Rows{{1, {"a", "", ""}}, {2, {"", ""}}, {3, {"", "x"}}});
  CHECK(rows_of("5\" disc,b\n") == Rows{{1, {"5\" disc", "b"}}});
}

TEST_CASE("a byte order mark, comments, empty lines, blanks, old line ends, names that are not UTF-8") {
  CHECK(rows_of("\xEF\xBB\xBFpath,label\n") == Rows{{1, {"path", "label"}}});
  CHECK(rows_of("\xEF\xBB\xBF\"path\",label\n") == Rows{{1, {"path", "label"}}});
  CHECK(rows_of("# head\n\n  \n a , b \n#c,d\n \"# e\" , f\n") == Rows{{4, {"a", "b"}}, {6, {"# e", "f"}}});
  CHECK(rows_of("a,b\rc,d\r") == Rows{{1, {"a", "b"}}, {2, {"c", "d"}}});
  CHECK(rows_of("caf\xE9/\xFF\xFE.mp4,\xE5\xB7\xA6\n") == Rows{{1, {"caf\xE9/\xFF\xFE.mp4", "\xE5\xB7\xA6"}}});
  CHECK(rows_of("").empty());
  CHECK(rows_of("\xEF\xBB\xBF").empty());
  CHECK(rows_of("# only\n\n").empty());
}

TEST_CASE("tabs and spaces") {
  CHECK(rows_of("a b\tc\n\t d\n", '\t') == Rows{{1, {"a b", "c"}}, {2, {"", "d"}}});
  CHECK(rows_of("a  b\t c \nd\n", ' ') == Rows{{1, {"a", "b", "c"}}, {2, {"d"}}});
  CHECK(rows_of("\"my video.mp4\" 3\n", ' ') == Rows{{1, {"my video.mp4", "3"}}});
}

// Catches: a wrong line in a message, and a file that is read as one record to its end without a word.
TEST_CASE("what cannot be meant is an error with its line") {
  CHECK(error_of("a,b\nc,\"d\n\n\n") == "list.csv:2: a quote opens here and never closes");
  CHECK(error_of("a,b\n\"c\nd\" e,f\n") == "list.csv:3: text behind a closing quote");
  CHECK(error_of("\"a\"b 3\n", ' ') == "list.csv:1: text behind a closing quote");
  CHECK(error_of(std::string("a,b\nc\0d,e\n", 10)) == "list.csv:2: the list holds a zero byte");
  CHECK(error_of("a,b\n\"" + std::string(2000000, 'x') + "\",c\n") == "list.csv:2: a record of more than 1 MiB begins here");
  CHECK(error_of(std::string("\xFF\xFE"
                             "a\0,\0", 6)).find("is UTF-16") != std::string::npos);
}

TEST_CASE("a buffer's edge is no place where anything may change") {
  for (const int shift : {0, 1, 2, 3}) {
    std::string text(static_cast<std::size_t>(shift), ' ');
    Rows expected;
    for (int i = 0; text.size() < 900000; ++i) {
      text += "\"v\"\"" + std::to_string(i) + "\r\n\",x" + std::to_string(i % 10) + "\r\n";
      expected.emplace_back(2 * i + 1, std::vector<std::string>{"v\"" + std::to_string(i) + "\r\n", "x" + std::to_string(i % 10)});
    }
    CHECK((rows_of(text) == expected));
  }
}

TEST_CASE("lists that are no files") {
  const ScratchFolder folder;
  const auto message = [](const std::string& path) {
    try {
      DelimitedFile reader(path, ',');
      for (Record record; reader.next(record);) {}
    } catch (const Error& error) {
      return std::to_string(static_cast<int>(error.code())) + " " + error.message();
    }
    return std::string();
  };
  const auto base = folder.path().string();
  REQUIRE(mkfifo((base + "/pipe").c_str(), 0600) == 0);
  CHECK(message(base) == "4 cannot read the list " + base + ": it is a folder");
  CHECK(message(base + "/pipe") == "4 cannot read the list " + base + "/pipe: it is a pipe");
  CHECK(message(base + "/none") == "4 cannot read the list " + base + "/none: No such file or directory");
  CHECK(message("/dev/zero") == "4 cannot read the list /dev/zero: it is no regular file");
  CHECK(message("/proc/self/mem") == "5 cannot read the list /proc/self/mem: Input/output error");
}

TEST_CASE("the separator is guessed from the first record") {
  const auto guess = [](const std::string& bytes, const std::string& name) { return DelimitedFile::guess_separator(Written(bytes, name).path()); };
  CHECK(guess("a b,c\n", "x.txt") == ',');
  CHECK(guess("a\tb,c\n", "x.csv") == '\t');
  CHECK(guess("a;b\n", "x.csv") == ';');
  CHECK(guess("\"a,b\" 3\n", "x.txt") == ' ');
  CHECK(guess("# a,b\na 3\n", "x.list") == ' ');
  CHECK(guess("a.mp4\nb,c\n", "x.csv") == ',');
  CHECK(guess("", "x.txt") == ' ');
}
