// What every SLUICE_ macro shares: the manifest in the ELF file, the descriptor, the one entry point.
// Plugin authors include the header of their kind (stage.hpp, source.hpp, ...), not this file.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include <sluice/abi.hpp>
#include <sluice/boundary.hpp>
#include <sluice/error.hpp>
#include <sluice/fields.hpp>
#include <sluice/manifest.hpp>
#include <sluice/sample.hpp>

namespace sluice {

// What a plugin may learn in prepare(), once, after the source was opened and before the first sample.
class Context {
 public:
  explicit Context(const abi::Context* raw) : raw_(raw) {}

  [[nodiscard]] std::vector<std::string> classes() const {
    std::vector<std::string> names;
    for (std::uint32_t i = 0; i < raw_->class_count; ++i) names.push_back(detail::text_of(raw_->classes[i]));
    return names;
  }
  // The number of a class; throws Code::configuration when the source has no class of that name.
  [[nodiscard]] std::int64_t class_number(std::string_view name) const {
    std::string known;
    for (std::uint32_t i = 0; i < raw_->class_count; ++i) {
      const auto text = detail::text_of(raw_->classes[i]);
      if (text == name) return i;
      if (i < 20) known += (i ? ", " : "") + text;
    }
    throw Error(Code::configuration, "the source has no class '" + std::string(name) + "'", "its classes: " + known);
  }
  [[nodiscard]] std::uint64_t seed() const { return raw_->seed; }
  [[nodiscard]] std::uint32_t workers() const { return raw_->workers; }
  [[nodiscard]] std::string cache_dir() const { return detail::text_of(raw_->cache_dir); }

 private:
  const abi::Context* raw_;
};

namespace detail {

template <class T> concept HasHelp = requires { { T::help } -> std::convertible_to<std::string_view>; };
template <class T> concept HasCheck = requires(const T& t) { t.check(); };
template <class T> concept HasPrepare = requires(T& t, const Context& c) { t.prepare(c); };
template <class T> concept HasDescribe = requires(const T& t) { { t.describe() } -> std::convertible_to<std::string>; };
template <class T> concept HasReads = requires { { T::reads } -> std::convertible_to<std::string_view>; };
template <class T> concept HasWrites = requires { { T::writes } -> std::convertible_to<std::string_view>; };
template <class T> concept HasThreads = requires { { T::threads } -> std::convertible_to<std::uint32_t>; };
template <class T> concept IsOrdered = requires { requires T::ordered; };
template <class T> concept WantsWholeClip = requires { requires T::whole_clip; };

// A default-constructed T can be made and destroyed at compile time.
template <class T> constexpr bool make_and_destroy() {
  T made{};
  static_cast<void>(made);
  return true;
}
template <class T> concept ConstantDefault = requires { typename std::bool_constant<make_and_destroy<T>()>; };

template <class T> constexpr void record_fields(abi::Manifest& manifest, const T& defaults) {
  std::apply(
      [&](const auto&... all) {
        static_assert(sizeof...(all) <= abi::max_fields, "a plugin has at most 24 fields");
        ((manifest.fields[manifest.field_count++] = record_of(all, defaults.*(all.member))), ...);
      },
      T::fields);
}

// Everything about T that can be read at compile time.
template <class T> consteval abi::Manifest make_manifest(std::string_view name, abi::Kind kind, std::uint32_t flags, std::string_view fingerprint) {
  abi::Manifest manifest{};
  std::copy(std::begin(manifest_magic), std::end(manifest_magic), manifest.magic);
  manifest.bytes = sizeof(abi::Manifest);
  manifest.abi = abi::version;
  manifest.kind = static_cast<std::uint32_t>(kind);
  manifest.flags = flags;
  copy_text(manifest.name, name);
  copy_text(manifest.sdk, sdk_version);
  copy_text(manifest.fingerprint, fingerprint);
  if constexpr (HasHelp<T>) copy_text(manifest.help, T::help);
  if constexpr (HasReads<T>) copy_text(manifest.reads, T::reads); else copy_text(manifest.reads, "*");
  if constexpr (HasWrites<T>) copy_text(manifest.writes, T::writes); else copy_text(manifest.writes, "*");
  if constexpr (HasThreads<T>) manifest.threads = T::threads;
  if constexpr (HasFields<T>) {
    if constexpr (ConstantDefault<T>) {
      T defaults{};
      record_fields(manifest, defaults);
    } else {
      // Members that cannot be destroyed at compile time (unique_ptr, mutex): made, read, and freed as bytes.
      T* defaults = std::construct_at(std::allocator<T>().allocate(1));
      record_fields(manifest, *defaults);
      std::allocator<T>().deallocate(defaults, 1);
    }
  }
  return manifest;
}

// The parts of a descriptor that all kinds share.
template <class T> struct Common {
  static void* create(abi::Failure* failure) {
    void* made = nullptr;
    guarded(failure, [&] { made = std::make_unique<T>().release(); });
    return made;
  }
  static void destroy(void* recipe) { std::default_delete<T>()(static_cast<T*>(recipe)); }
  static int set(void* recipe, abi::Text name, const abi::Value* value, abi::Failure* failure) {
    return guarded(failure, [&] {
      if (!set_field(*static_cast<T*>(recipe), text_of(name), *value)) throw Error(Code::configuration, "no field of this name");
    });
  }
  static int check(const void* recipe, abi::Failure* failure) {
    return guarded(failure, [&] {
      if constexpr (HasCheck<T>) static_cast<const T*>(recipe)->check();
      else static_cast<void>(recipe);
    });
  }
  static int prepare(void* recipe, const abi::Context* context, abi::Failure* failure) {
    return guarded(failure, [&] {
      if constexpr (HasPrepare<T>) static_cast<T*>(recipe)->prepare(Context(context));
      else static_cast<void>(recipe), static_cast<void>(context);
    });
  }
  static int describe(const void* recipe, void* sink, void (*put)(void*, abi::Text), abi::Failure* failure) {
    return guarded(failure, [&] {
      if constexpr (HasDescribe<T>) {
        const std::string text = static_cast<const T*>(recipe)->describe();
        put(sink, {text.data(), text.size()});
      } else {
        static_cast<void>(recipe), static_cast<void>(sink), static_cast<void>(put);
      }
    });
  }
  static constexpr abi::Descriptor descriptor(abi::Kind kind, const abi::Manifest* manifest) {
    abi::Descriptor out{};
    out.size = sizeof(abi::Descriptor);
    out.kind = kind;
    out.manifest = manifest;
    out.create = &create;
    out.destroy = &destroy;
    out.set = &set;
    out.check = &check;
    out.prepare = &prepare;
    out.describe = &describe;
    return out;
  }
};

}  // namespace detail
}  // namespace sluice

extern "C" {
// Set by the linker around the section in which each macro leaves a pointer to its descriptor.
[[gnu::weak, gnu::visibility("hidden")]] extern const sluice::abi::Descriptor* const __start_sluice_entries[];
[[gnu::weak, gnu::visibility("hidden")]] extern const sluice::abi::Descriptor* const __stop_sluice_entries[];

}

namespace sluice::detail {
// Internal linkage on purpose: a static inside the inline function would be a unique symbol, one for all loaded plugins.
namespace {
const abi::PluginTable table_of_this_file{sizeof(abi::PluginTable), abi::version, __start_sluice_entries, __stop_sluice_entries};
}
}  // namespace sluice::detail

extern "C" {
// Emitted only where SLUICE_REGISTER uses it: the host includes this header too, and is no plugin.
[[gnu::visibility("default")]] inline const sluice::abi::PluginTable* sluice_plugin_table() {
  return &sluice::detail::table_of_this_file;
}
}

#define SLUICE_JOIN_(a, b) a##b
#define SLUICE_JOIN(a, b) SLUICE_JOIN_(a, b)

// Leaves manifest and descriptor in their sections. Non-template variables of internal linkage: on templates and static
// members g++ 12 drops the section silently.
#define SLUICE_REGISTER(MANIFEST, DESCRIPTOR)                                                                        \
  namespace {                                                                                                       \
  [[gnu::section(".sluice.manifest"), gnu::used, gnu::retain]] constexpr ::sluice::abi::Manifest SLUICE_JOIN(        \
      sluice_manifest_, __LINE__) = MANIFEST;                                                                        \
  constexpr ::sluice::abi::Descriptor SLUICE_JOIN(sluice_descriptor_, __LINE__) =                                    \
      DESCRIPTOR(&SLUICE_JOIN(sluice_manifest_, __LINE__));                                                          \
  [[gnu::section("sluice_entries"), gnu::used, gnu::retain]] constexpr const ::sluice::abi::Descriptor* SLUICE_JOIN( \
      sluice_entry_, __LINE__) = &SLUICE_JOIN(sluice_descriptor_, __LINE__);                                         \
  [[gnu::used]] const ::sluice::abi::PluginTable* (*const SLUICE_JOIN(sluice_table_, __LINE__))() = &sluice_plugin_table; \
  }                                                                                                                  \
  static_assert(true)
