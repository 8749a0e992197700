// Reads the chain of files under a pipeline.
#include "framework/config/layers.hpp"

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <sluice/error.hpp>

#include "framework/base/strings.hpp"
#include "framework/config/tables.hpp"
#include "framework/config/toml.hpp"

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t longest_chain = 16;
constexpr int most_files = 64;

void set_layer(Value& value, int layer);
void set_layer(Table& table, int layer) {
  for (Member& member : table) {
    member.place.layer = layer;
    set_layer(member.value, layer);
  }
}
void set_layer(Value& value, int layer) {
  value.place.layer = layer;
  if (auto* table = std::get_if<Table>(&value.data)) set_layer(*table, layer);
  if (auto* list = std::get_if<List>(&value.data))
    for (Value& item : *list) set_layer(item, layer);
}

// The text that a value gives as a list of file names: one, or several.
std::vector<std::pair<std::string, Place>> names_in(const Value& value) {
  const auto refuse = [](const Value& wrong) {
    throw Error(Code::configuration, fmt::format("extends must be a file name or a list of them, not {}", type_of(wrong)),
                "extends = \"base.toml\"", wrong.place.text());
  };
  std::vector<std::pair<std::string, Place>> names;
  const auto add = [&](const Value& item) {
    const auto* text = as_text(item);
    if (!text || text->empty()) refuse(item);
    names.emplace_back(*text, item.place);
  };
  if (const List* list = as_list(value)) std::for_each(list->begin(), list->end(), add);
  else add(value);
  return names;
}

class Chain {
 public:
  // `name` is how messages call the file; `asked` is where it was named, null for the first.
  Table read(const fs::path& file, const std::string& name, const Place* asked) {
    std::error_code missing;
    const fs::path real = fs::weakly_canonical(file, missing);
    const auto refuse = [&](std::string what, std::string hint) {
      throw Error(Code::configuration, std::move(what), std::move(hint), asked ? asked->text() : name);
    };
    if (const auto at = std::find(open_.begin(), open_.end(), real); at != open_.end()) {
      std::string way;
      for (auto step = at; step != open_.end(); ++step) way += step->filename().string() + " -> ";
      refuse("the files extend each other in a circle: " + way + real.filename().string(), "take one `extends` out");
    }
    if (open_.size() >= longest_chain || ++files_ > most_files) refuse("too many files extend each other", "at most 16 in a chain, 64 in all");

    open_.push_back(real);
    Table table;
    try {
      table = read_toml(file, name, 0);
    } catch (const Error& error) {
      if (asked && error.where() == name) throw Error(error.code(), fmt::format("cannot extend {}: {}", in_quotes(name), error.message()), error.hint(), asked->text());
      throw;
    }
    Table merged;
    if (const Member* extends = find(table, "extends")) {
      for (const auto& [base, place] : names_in(extends->value)) {
        const fs::path below = file.parent_path() / base;
        merge(merged, read(below, (fs::path(name).parent_path() / base).lexically_normal().string(), &place));
      }
      std::erase_if(table, [](const Member& member) { return member.key == "extends"; });
    }
    set_layer(table, next_layer_++);
    merge(merged, std::move(table));
    open_.pop_back();
    return merged;
  }

 private:
  std::vector<fs::path> open_;
  int files_ = 0;
  int next_layer_ = 0;
};

}  // namespace

Table read_layers(const fs::path& file, const std::vector<fs::path>& with) {
  Chain chain;
  Table merged = chain.read(fs::absolute(file), file.string(), nullptr);
  for (const auto& above : with) merge(merged, chain.read(fs::absolute(above), above.string(), nullptr));
  return merged;
}

void apply_plan(Table& merged, const fs::path& file) {
  Table plan = read_toml(file, file.string(), 0);
  set_layer(plan, plan_layer);
  // Nothing: every key of the section.
  static const std::map<std::string, std::vector<std::string>, std::less<>> parts{
      {"run", {"precision"}}, {"budget", {"workers", "compute_threads"}}, {"batch", {"microbatch"}}, {"eval", {"microbatch"}}, {"plan", {}}};
  for (const Member& section : plan) {
    const auto part = parts.find(section.key);
    const Table* table = as_table(section.value);
    const Member* wrong = &section;
    if (table && part != parts.end()) {
      const auto& keys = part->second;
      const auto other = std::find_if(table->begin(), table->end(), [&](const Member& member) { return !keys.empty() && std::find(keys.begin(), keys.end(), member.key) == keys.end(); });
      if (other == table->end()) continue;
      wrong = &*other;
    }
    throw Error(Code::configuration, fmt::format("a plan has no {}", in_quotes(wrong == &section ? section.key : section.key + "." + wrong->key)),
                "it holds run.precision, budget.workers, budget.compute_threads, batch.microbatch, eval.microbatch and [plan], as a run writes them to its plan.toml; other keys belong in the pipeline", wrong->place.text());
  }
  const auto has = [&](const char* section, const char* key) {
    const Member* found = find(plan, section);
    const Table* table = found ? as_table(found->value) : nullptr;
    return table && find(*table, key);
  };
  for (const auto& [section, key] : {std::pair("batch", "microbatch"), std::pair("plan", "checkpoint"), std::pair("plan", "offload"), std::pair("plan", "layout")})
    if (!has(section, key)) throw Error(Code::configuration, fmt::format("this is no whole plan: it lacks {}.{}", section, key), "a run writes a whole one to its plan.toml", file.string());
  merge(merged, std::move(plan));
}

fs::path folder_of(const Place& place) {
  return on_command_line(place) ? fs::current_path() : fs::absolute(place.file).parent_path().lexically_normal();
}

}  // namespace sluice
