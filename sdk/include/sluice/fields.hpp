// Parameters of a plugin, each declared once: the TOML binding, the checks, the help, `inspect` and the schema follow.
//
//   struct Blur {
//     double sigma = 1.0;
//     static constexpr auto fields = sluice::fields(
//         sluice::field(&Blur::sigma, "sigma", "width of the Gaussian in pixels", sluice::at_least(0.0)));
//   };
//
// Types: bool, integers, double, sluice::Text, std::vector of int64_t, double or sluice::Text, sluice::StringMap,
// sluice::Part, and std::optional of the scalar ones. Defaults are those of a default-constructed plugin.
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <sluice/abi.hpp>
#include <sluice/error.hpp>
#include <sluice/manifest.hpp>
#include <sluice/text.hpp>

namespace sluice {

// Text to text, in the order of the file.
struct StringMap {
  std::vector<std::pair<Text, Text>> items;

  [[nodiscard]] const Text* find(std::string_view key) const {
    for (const auto& [name, value] : items)
      if (name == key) return &value;
    return nullptr;
  }
};

// A nested plugin, e.g. backbone = { plugin = "backbone.r3d_18" }. The host fills it; owned by the host.
struct Part {
  std::string_view kind;  // e.g. "backbone"
  const abi::Descriptor* descriptor = nullptr;
  void* recipe = nullptr;
};

// What a field may be told beside its name and help.
struct Limits {
  double min = 0, max = 0;
  bool has_min = false, has_max = false, open_min = false, open_max = false;
};
struct Choices {
  std::string_view joined;  // a|b|c
};
struct PathTag {};
struct RequiredTag {};

constexpr Limits range(double low, double high) { return {low, high, true, true, false, false}; }
constexpr Limits at_least(double low) { return {low, 0, true, false, false, false}; }
constexpr Limits above(double low) { return {low, 0, true, false, true, false}; }
constexpr Limits at_most(double high) { return {0, high, false, true, false, false}; }
constexpr Limits below(double low, double high) { return {low, high, true, true, false, true}; }  // [low, high)
constexpr Choices one_of(std::string_view joined) { return {joined}; }
inline constexpr PathTag path{};
inline constexpr RequiredTag required{};

template <class Owner, class Member> struct Field {
  Member Owner::*member;
  std::string_view name;
  std::string_view help;
  Limits limits{};
  Choices choices{};
  bool is_path = false;
  bool is_required = false;

  constexpr void apply(Limits value) { limits = value; }
  constexpr void apply(Choices value) { choices = value; }
  constexpr void apply(PathTag) { is_path = true; }
  constexpr void apply(RequiredTag) { is_required = true; }
};

template <class Owner, class Member, class... Rules>
constexpr Field<Owner, Member> field(Member Owner::*member, std::string_view name, std::string_view help, Rules... rules) {
  Field<Owner, Member> out{member, name, help};
  (out.apply(rules), ...);
  return out;
}

template <class... Fields> constexpr std::tuple<Fields...> fields(Fields... all) { return {all...}; }

namespace detail {

template <class T> struct IsOptional : std::false_type {};
template <class T> struct IsOptional<std::optional<T>> : std::true_type { using Inner = T; };

template <class T> constexpr FieldType field_type() {
  if constexpr (IsOptional<T>::value) return field_type<typename IsOptional<T>::Inner>();
  else if constexpr (std::same_as<T, bool>) return FieldType::boolean;
  else if constexpr (std::integral<T>) return FieldType::integer;
  else if constexpr (std::floating_point<T>) return FieldType::real;
  else if constexpr (std::same_as<T, Text>) return FieldType::text;
  else if constexpr (std::same_as<T, std::vector<std::int64_t>>) return FieldType::integers;
  else if constexpr (std::same_as<T, std::vector<double>>) return FieldType::reals;
  else if constexpr (std::same_as<T, std::vector<Text>>) return FieldType::texts;
  else if constexpr (std::same_as<T, StringMap>) return FieldType::map;
  else if constexpr (std::same_as<T, Part>) return FieldType::part;
  else static_assert(sizeof(T) == 0, "a field is bool, integer, double, sluice::Text, a vector of these, StringMap or Part");
}

inline std::string text_of(abi::Text text) { return text.size == 0 ? std::string() : std::string(text.data, text.size); }

// The host has checked type, range and choices against the manifest; here values only move into the struct.
template <class Member> void assign(Member& member, const abi::Value& value) {
  if constexpr (IsOptional<Member>::value) {
    typename IsOptional<Member>::Inner inner{};
    assign(inner, value);
    member = std::move(inner);
  } else if constexpr (std::same_as<Member, bool>) {
    member = value.integer != 0;
  } else if constexpr (std::integral<Member>) {
    if (!std::in_range<Member>(value.integer)) throw Error(Code::configuration, "the number does not fit the field");
    member = static_cast<Member>(value.integer);
  } else if constexpr (std::floating_point<Member>) {
    member = static_cast<Member>(value.real);
  } else if constexpr (std::same_as<Member, Text>) {
    member = Text(text_of(value.text));
  } else if constexpr (std::same_as<Member, StringMap>) {
    member.items.clear();
    for (std::uint32_t i = 0; i < value.count; ++i) member.items.emplace_back(text_of(value.keys[i]), text_of(value.items[i].text));
  } else if constexpr (std::same_as<Member, Part>) {
    member.descriptor = static_cast<const abi::Descriptor*>(value.part);
    member.recipe = value.recipe;
  } else {
    member.clear();
    for (std::uint32_t i = 0; i < value.count; ++i) {
      typename Member::value_type element{};
      assign(element, value.items[i]);
      member.push_back(std::move(element));
    }
  }
}

template <class T> concept HasFields = requires { T::fields; };

template <class T> bool set_field(T& recipe, std::string_view name, const abi::Value& value) {
  if constexpr (HasFields<T>) {
    return std::apply(
        [&](const auto&... all) {
          return ((all.name == name ? (assign(recipe.*(all.member), value), true) : false) || ...);
        },
        T::fields);
  } else {
    return false;
  }
}

template <std::size_t Size> constexpr void copy_text(char (&to)[Size], std::string_view from) {
  if (from.size() >= Size) throw "text too long for the manifest";  // in a constant expression: a compile error
  for (std::size_t i = 0; i < from.size(); ++i) to[i] = from[i];
}

// Constant-evaluated writers of list defaults, as TOML text.
template <std::size_t Size> struct TextWriter {
  char (&to)[Size];
  std::size_t used = 0;

  constexpr void put(std::string_view text) {
    if (used + text.size() >= Size) throw "default too long for the manifest";
    for (const char c : text) to[used++] = c;
  }
  constexpr void number(std::int64_t value) {
    char digits[24] = {};
    int n = 0;
    std::uint64_t rest = value < 0 ? 0 - static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value);
    do {
      digits[n++] = static_cast<char>('0' + rest % 10);
      rest /= 10;
    } while (rest != 0);
    if (value < 0) put("-");
    while (n > 0) put(std::string_view(&digits[--n], 1));
  }
  // Up to six decimals; enough for the defaults people write.
  constexpr void number(double value) {
    if (value < 0) {
      put("-");
      value = -value;
    }
    auto whole = static_cast<std::int64_t>(value);
    auto micros = static_cast<std::int64_t>((value - static_cast<double>(whole)) * 1e6 + 0.5);
    if (micros == 1000000) {
      ++whole;
      micros = 0;
    }
    number(whole);
    put(".");
    std::int64_t unit = 100000;
    do {
      number(micros / unit);
      micros %= unit;
      unit /= 10;
    } while (micros != 0 && unit != 0);
  }
};

template <class Owner, class Member>
constexpr abi::FieldRecord record_of(const Field<Owner, Member>& field, const Member& fallback) {
  abi::FieldRecord record{};
  copy_text(record.name, field.name);
  copy_text(record.help, field.help);
  copy_text(record.choices, field.choices.joined);
  record.type = static_cast<std::uint32_t>(field_type<Member>());
  record.min = field.limits.min;
  record.max = field.limits.max;
  record.flags = (field.limits.has_min ? abi::field_has_min : 0u) | (field.limits.has_max ? abi::field_has_max : 0u) |
                 (field.limits.open_min ? abi::field_open_min : 0u) | (field.limits.open_max ? abi::field_open_max : 0u) |
                 (field.is_path ? abi::field_path : 0u) | (field.is_required ? abi::field_required : 0u);
  if constexpr (IsOptional<Member>::value) {
    record.flags |= abi::field_optional;
  } else if constexpr (std::integral<Member>) {
    record.integer = static_cast<std::int64_t>(fallback);
  } else if constexpr (std::floating_point<Member>) {
    record.real = fallback;
  } else if constexpr (std::same_as<Member, Text>) {
    copy_text(record.text, fallback);
  } else if constexpr (std::same_as<Member, Part>) {
    copy_text(record.text, fallback.kind);
  } else if constexpr (std::same_as<Member, StringMap>) {
    if (!fallback.items.empty()) throw "a map has no default but the empty one";
  } else {
    TextWriter<sizeof record.text> writer{record.text};
    writer.put("[");
    bool first = true;
    for (const auto& element : fallback) {
      if (!first) writer.put(", ");
      first = false;
      if constexpr (std::same_as<Member, std::vector<Text>>) {
        writer.put("\"");
        writer.put(element);
        writer.put("\"");
      } else {
        writer.number(element);
      }
    }
    writer.put("]");
  }
  return record;
}

}  // namespace detail
}  // namespace sluice
