// Reads the merged table of a pipeline into its structs, by the declaration in keys.cpp, and checks every key.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "framework/config/catalogue.hpp"
#include "framework/config/keys.hpp"
#include "framework/config/problems.hpp"

namespace sluice {

class Reader final : public KeyVisitor {
 public:
  // `needs` names the plugin sections that must be there; others may be absent.
  Reader(const Table& root, Place file, const Catalogue& catalogue, std::set<std::string> needs, Problems& problems, std::vector<std::string>& notices);
  void finish();  // reports what stands at the top of the file and is no section

  bool begin(std::string_view name, std::string_view help, Presence presence, bool there) override;
  void end() override;
  std::size_t items(std::string_view name, std::string_view help, std::size_t size) override;
  void begin_item(std::size_t i) override;
  void plugin(PluginConfig& plugin, const std::vector<abi::Kind>& kinds) override;
  void key(std::string_view name, Placed<bool>& value, std::string_view help) override;
  void key(std::string_view name, Placed<std::int64_t>& value, std::string_view help, WholeRule rule) override;
  void key(std::string_view name, Placed<double>& value, std::string_view help, RealRule rule) override;
  void key(std::string_view name, Placed<std::uint64_t>& value, std::string_view help, BytesRule rule) override;
  void key(std::string_view name, Placed<std::string>& value, std::string_view help, TextRule rule) override;
  void key(std::string_view name, Placed<Precision>& value, std::string_view help) override;
  void key(std::string_view name, Placed<std::filesystem::path>& value, std::string_view help) override;
  void key(std::string_view name, std::optional<Placed<std::filesystem::path>>& value, std::string_view help) override;
  void key(std::string_view name, std::vector<std::string>& value, std::string_view help) override;
  void key(std::string_view name, std::vector<double>& value, std::string_view help, RealRule rule) override;
  void key(std::string_view name, std::vector<std::filesystem::path>& value, std::string_view help) override;
  void key(std::string_view name, std::string& value, std::string_view help, TextRule rule) override;
  void key(std::string_view name, bool& value, std::string_view help) override;
  void key(std::string_view name, BatchNormConfig& value, std::string_view help) override;
  void key(std::string_view name, SegmentChoice& value, std::string_view help) override;
  void free_keys(std::map<std::string, std::string>& values, std::string_view help) override;

 private:
  struct Level {
    std::string path;
    const Table* table;
    Place place;
    std::vector<std::string> known{};
    bool takes_all = false;  // a plugin or free_keys() took what the host does not know
  };

  const Value* take(std::string_view name);
  [[nodiscard]] std::string path(std::string_view name) const;
  void wrong(std::string_view name, const Value& value, std::string_view help, std::string why, std::string hint = {});
  bool read_text(std::string_view name, const Value& value, std::string_view help, const TextRule& rule, std::string& out);
  bool read_real(std::string_view name, const Value& value, std::string_view help, const RealRule& rule, double& out);
  bool read_bool(std::string_view name, const Value& value, std::string_view help, bool& out);
  bool read_path(std::string_view name, const Value& value, std::string_view help, std::filesystem::path& out);
  void unknown_keys(const Level& level);

  std::vector<Level> levels_;
  std::vector<const Table*> items_;
  std::vector<Place> item_places_;
  std::string items_name_;
  const Catalogue& catalogue_;
  std::set<std::string> needs_;
  Problems& problems_;
  std::vector<std::string>& notices_;
};

}  // namespace sluice
