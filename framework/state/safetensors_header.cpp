// A strict reader of the header's JSON: {"__metadata__": {text: text}, name: {"dtype": text, "shape": [n...], "data_offsets": [begin, end]}}.
#include "framework/state/safetensors_header.hpp"

#include <algorithm>
#include <limits>
#include <string>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <sluice/error.hpp>

#include "framework/base/strings.hpp"

namespace sluice {
namespace {

[[noreturn]] void refuse(const std::string& why) { throw Error(Code::data, why); }

// Follows the parser's events; anything out of the form above is refused where it stands.
class HeaderEvents final : public nlohmann::json::json_sax_t {
 public:
  SafetensorsHeader header;

  bool start_object(std::size_t) override {
    if (depth_ == 0) {
      depth_ = 1;
    } else if (depth_ == 1) {
      depth_ = 2;
      if (metadata_) return true;
      header.tensors.emplace_back().name = key_;
      seen_type_ = seen_shape_ = seen_offsets_ = false;
    } else {
      refuse("the header is nested too deep");
    }
    return true;
  }
  bool key(string_t& name) override {
    if (depth_ == 1) {
      metadata_ = name == "__metadata__";
      if (metadata_ && seen_metadata_) refuse("the header has two '__metadata__'");
      seen_metadata_ |= metadata_;
    }
    if (depth_ == 2 && metadata_ && header.metadata.count(name) > 0) refuse("the metadata names " + in_quotes(name) + " twice");
    key_ = name;
    return true;
  }
  bool end_object() override {
    if (depth_ == 2 && !metadata_ && !(seen_type_ && seen_shape_ && seen_offsets_))
      refuse(fmt::format("tensor {} lacks one of dtype, shape and data_offsets", in_quotes(header.tensors.back().name)));
    --depth_;
    return true;
  }
  bool string(string_t& text) override {
    if (depth_ != 2 || in_array_) unexpected("a text");
    if (metadata_) {
      header.metadata[key_] = text;
      return true;
    }
    if (key_ != "dtype") unexpected("a text");
    once(seen_type_);
    const auto type = tensor_type(text);
    if (!type) refuse(fmt::format("tensor {} has the type {}, which is not supported", in_quotes(header.tensors.back().name), in_quotes(text)));
    header.tensors.back().type = *type;
    return true;
  }
  bool start_array(std::size_t) override {
    if (depth_ != 2 || in_array_ || metadata_) unexpected("a list");
    if (key_ == "shape") once(seen_shape_);
    else if (key_ == "data_offsets") once(seen_offsets_);
    else unexpected("a list");
    in_array_ = true;
    offsets_ = 0;
    return true;
  }
  bool end_array() override {
    if (key_ == "data_offsets" && offsets_ != 2) refuse(fmt::format("tensor {} needs two data_offsets", in_quotes(header.tensors.back().name)));
    in_array_ = false;
    return true;
  }
  bool number_unsigned(number_unsigned_t number) override {
    if (!in_array_) unexpected("a number");
    auto& tensor = header.tensors.back();
    if (key_ == "shape") {
      if (number > static_cast<number_unsigned_t>(std::numeric_limits<std::int64_t>::max())) unexpected("so large an extent");
      if (tensor.shape.size() >= 64) refuse(fmt::format("tensor {} has more than 64 axes", in_quotes(tensor.name)));
      tensor.shape.push_back(static_cast<std::int64_t>(number));
    } else {
      if (offsets_ == 0) tensor.offset = number;
      if (offsets_ == 1) {
        if (number < tensor.offset) refuse(fmt::format("tensor {} ends before it begins", in_quotes(tensor.name)));
        tensor.bytes = number - tensor.offset;
      }
      if (++offsets_ > 2) refuse(fmt::format("tensor {} needs two data_offsets", in_quotes(tensor.name)));
    }
    return true;
  }
  bool number_integer(number_integer_t) override { unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { unexpected("a number that is not whole"); }
  bool null() override { unexpected("null"); }
  bool boolean(bool) override { unexpected("true or false"); }
  bool binary(binary_t&) override { unexpected("bytes"); }
  bool parse_error(std::size_t at, const std::string&, const nlohmann::detail::exception&) override {
    refuse(fmt::format("the header is no JSON at byte {}", at));
  }

 private:
  [[noreturn]] void unexpected(const std::string& what) { refuse(fmt::format("the header has {} where {} stands", what, in_quotes(key_))); }
  void once(bool& seen) {
    if (seen) refuse(fmt::format("tensor {} says {} twice", in_quotes(header.tensors.back().name), key_));
    seen = true;
  }

  int depth_ = 0;
  bool metadata_ = false, seen_metadata_ = false, in_array_ = false;
  bool seen_type_ = false, seen_shape_ = false, seen_offsets_ = false;
  int offsets_ = 0;
  std::string key_;
};

void check_layout(std::vector<TensorInFile>& tensors, std::uint64_t data_bytes) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorInFile& a, const TensorInFile& b) {
    return a.offset != b.offset ? a.offset < b.offset : a.bytes < b.bytes;
  });
  std::uint64_t end = 0;
  for (const auto& tensor : tensors) {
    if (tensor.offset != end) refuse(fmt::format("tensor {} begins at {}, the one before ends at {}", in_quotes(tensor.name), tensor.offset, end));
    if (tensor_bytes(tensor.type, tensor.shape) != tensor.bytes)
      refuse(fmt::format("tensor {} takes {} bytes, which do not fit {} [{}]", in_quotes(tensor.name), tensor.bytes, name_of(tensor.type), fmt::join(tensor.shape, ", ")));
    end += tensor.bytes;
  }
  if (end != data_bytes) refuse(fmt::format("the tensors take {} bytes, the file has {}", with_commas(end), with_commas(data_bytes)));
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::string_view json, std::uint64_t data_bytes) {
  if (json.empty() || json.front() != '{') refuse("the header does not begin with '{'");
  HeaderEvents events;
  nlohmann::json::sax_parse(json, &events);
  auto& tensors = events.header.tensors;
  check_layout(tensors, data_bytes);
  std::sort(tensors.begin(), tensors.end(), [](const TensorInFile& a, const TensorInFile& b) { return a.name < b.name; });
  const auto twice = std::adjacent_find(tensors.begin(), tensors.end(), [](const TensorInFile& a, const TensorInFile& b) { return a.name == b.name; });
  if (twice != tensors.end()) refuse(fmt::format("two tensors are named {}", in_quotes(twice->name)));
  return std::move(events.header);
}

}  // namespace sluice
