// Recipes of plugins that are compiled into the program that uses them.
#include "framework/plugin/recipe.hpp"

#include <sluice/sample.hpp>

namespace sluice {

Recipe::Recipe(const abi::Descriptor& descriptor) : descriptor_(&descriptor) {
  auto failure = detail::no_failure();
  instance_ = descriptor.create(&failure);
  throw_failure(instance_ ? 0 : failure.code, failure, descriptor.manifest->name);
  failure = detail::no_failure();
  throw_failure(descriptor.check(instance_, &failure), failure, descriptor.manifest->name);
}

}  // namespace sluice
