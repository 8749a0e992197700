// sluice: the command line. Every error leaves through here, on standard error, with its exit code.
#include <cstdio>
#include <exception>

#include <sluice/error.hpp>
#include <sluice/manifest.hpp>

#include "framework/app/verbs.hpp"

namespace {

int usage_error(const CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
  std::fprintf(stderr, "error: %s\n  hint: sluice %s--help says what there is\n", error.what(),
               app.get_subcommands().empty() ? "" : (app.get_subcommands().front()->get_name() + " ").c_str());
  return static_cast<int>(sluice::Code::configuration);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Trains video models inside the memory you have.", "sluice");
  app.set_version_flag("--version", std::string("sluice ") + sluice::sdk_version);
  app.require_subcommand(1);
  app.footer("Example: sluice train pipelines/motion8.toml batch.size=8");

  sluice::app::Action action;
  sluice::app::add_train(app, action);
  sluice::app::add_eval(app, action);
  sluice::app::add_predict(app, action);
  sluice::app::add_check(app, action);
  sluice::app::add_plugins(app, action);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return usage_error(app, error);
  }
  try {
    return action();
  } catch (const sluice::Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return static_cast<int>(error.code());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n  hint: this is a fault of sluice itself; please report the command and the pipeline\n", error.what());
    return 1;
  }
}
