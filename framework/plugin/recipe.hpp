// Recipe: a plugin's struct with its fields set from the pipeline file. Owns the instance.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <sluice/abi.hpp>

#include "framework/config/pipeline.hpp"
#include "framework/plugin/registry.hpp"

namespace sluice {

class Recipe {
 public:
  // Loads the plugin, creates an instance, sets its fields (nested plugin tables become Parts, recursively) and calls
  // check(). Errors carry the place of the value that is wrong.
  Recipe(Registry& registry, const PluginConfig& config);
  // An instance with its defaults, of a plugin that is part of this program (tests, benchmarks). The descriptor outlives it.
  explicit Recipe(const abi::Descriptor& descriptor);
  ~Recipe();
  Recipe(Recipe&&) noexcept;
  Recipe& operator=(Recipe&&) noexcept;

  [[nodiscard]] const abi::Descriptor& descriptor() const { return *descriptor_; }
  [[nodiscard]] const abi::Manifest& manifest() const { return *descriptor_->manifest; }
  [[nodiscard]] void* instance() const { return instance_; }
  [[nodiscard]] std::string name() const { return descriptor_->manifest->name; }

 private:
  const abi::Descriptor* descriptor_ = nullptr;
  void* instance_ = nullptr;
  std::vector<std::unique_ptr<Recipe>> parts_;  // nested plugins; `instance_` points to theirs
};

// Throws the Error that a boundary call reported, with `where` in front; does nothing when status is 0.
void throw_failure(int status, const abi::Failure& failure, const std::string& where);

}  // namespace sluice
