// A source lists what there is to train and evaluate on. It decodes nothing.
//
//   struct Folder {
//     std::string root;
//     static constexpr auto fields = sluice::fields(sluice::field(&Folder::root, "root", "folder of videos", sluice::path, sluice::required));
//     void list(sluice::Listing& listing) const {
//       listing.classes({"left", "right"});
//       listing.add({.split = sluice::Split::train, .label = 0, .streams = {{"clip", root + "/a.mp4"}}});
//     }
//   };
//   SLUICE_SOURCE(Folder, "source.folder");
//
// The order of add() is the order of the samples: it must not depend on time, locale or the file system's order.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <sluice/plugin.hpp>

namespace sluice {

using abi::Split;
using abi::Unit;

struct Entry {
  Split split = Split::train;
  std::int64_t label = -1;                                     // a class number; -1: none
  std::vector<std::pair<std::string, std::string>> streams{};  // text streams; a decoder reads its path from one
  Unit unit = Unit::whole;                                     // of start and end, which bound a piece: [start, end)
  double start = 0;
  double end = 0;
  std::string group{};   // what belongs together, e.g. a person
  std::string origin{};  // where it was declared, e.g. "list.csv:17", for messages
};

class Listing {
 public:
  explicit Listing(const abi::Listing* raw) : raw_(raw) {}

  void classes(const std::vector<std::string>& names) {
    std::vector<abi::Text> texts;
    for (const auto& name : names) texts.push_back(detail::text(name));
    auto failure = detail::no_failure();
    detail::throw_if(raw_->classes(raw_->host, texts.data(), texts.size(), &failure), failure);
  }
  void add(const Entry& entry) {
    names_.clear();
    values_.clear();
    for (const auto& [name, value] : entry.streams) {
      names_.push_back(detail::text(name));
      values_.push_back(detail::text(value));
    }
    const abi::Entry raw{sizeof(abi::Entry), entry.split, entry.label, entry.unit, static_cast<std::uint32_t>(names_.size()), entry.start,
                         entry.end, names_.data(), values_.data(), detail::text(entry.group), detail::text(entry.origin)};
    auto failure = detail::no_failure();
    detail::throw_if(raw_->add(raw_->host, &raw, &failure), failure);
  }
  // An entry that cannot be used, and why. It is listed and counts towards run.max_failures.
  void reject(const std::string& origin, const std::string& why) {
    auto failure = detail::no_failure();
    detail::throw_if(raw_->reject(raw_->host, detail::text(origin), detail::text(why), &failure), failure);
  }
  // What it is doing, for the live line; fraction in [0, 1].
  void progress(const std::string& what, double fraction) const { raw_->progress(raw_->host, detail::text(what), fraction); }

  [[nodiscard]] Context context() const { return Context(&raw_->context); }

 private:
  const abi::Listing* raw_;
  std::vector<abi::Text> names_;
  std::vector<abi::Text> values_;
};

namespace detail {

template <class T> struct SourceCalls {
  static int list(void* recipe, const abi::Listing* raw, abi::Failure* failure) {
    return guarded(failure, [&] {
      Listing listing(raw);
      static_cast<T*>(recipe)->list(listing);
    });
  }
  static constexpr abi::SourceTable table{sizeof(abi::SourceTable), &list};

  static constexpr abi::Descriptor descriptor(const abi::Manifest* manifest) {
    auto out = Common<T>::descriptor(abi::Kind::source, manifest);
    out.source = &table;
    return out;
  }
};

}  // namespace detail
}  // namespace sluice

#define SLUICE_SOURCE(TYPE, NAME)                                                                              \
  SLUICE_REGISTER((::sluice::detail::make_manifest<TYPE>(NAME, ::sluice::abi::Kind::source, 0u, "")),           \
                  ::sluice::detail::SourceCalls<TYPE>::descriptor)
