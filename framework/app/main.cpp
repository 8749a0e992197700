// sluice: the command line. Every error leaves through here, on standard error, with its exit code.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <system_error>

#include <fcntl.h>
#include <unistd.h>

#include <sluice/error.hpp>
#include <sluice/manifest.hpp>

#include "framework/app/verbs.hpp"
#include "framework/base/afresh.hpp"
#include "framework/base/strings.hpp"

namespace {

using namespace sluice;

// The verb that was meant, as far as it was typed: sluice data show.
std::string typed(const CLI::App& app) {
  std::string text = "sluice";
  for (const CLI::App* at = &app; !at->get_subcommands().empty();) {
    at = at->get_subcommands().front();
    text += " " + at->get_name();
  }
  return text;
}

// A word where a verb belongs: "there is no verb 'trian'", and those that it may have meant.
bool report_unknown_verb(const CLI::App& app, int argc, char** argv) {
  const CLI::App* at = &app;
  int word = 1;
  for (; !at->get_subcommands().empty(); ++word) at = at->get_subcommands().front();
  const auto verbs = at->get_subcommands([](const CLI::App*) { return true; });
  if (verbs.empty() || word >= argc || argv[word][0] == '-') return false;
  std::vector<std::string> names;
  for (const auto* verb : verbs) names.push_back(verb->get_name());
  const auto near = nearest(argv[word], names);
  std::fprintf(stderr, "error: there is no verb %s\n  hint: %s\n", in_quotes(argv[word]).c_str(),
               near.empty() ? (typed(app) + " --help lists all").c_str() : ("did you mean " + join(near, " or ") + "?").c_str());
  return true;
}

int usage_error(const CLI::App& app, const CLI::ParseError& error, int argc, char** argv) {
  if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
  if (report_unknown_verb(app, argc, argv)) return static_cast<int>(Code::configuration);
  std::fprintf(stderr, "error: %s\n  hint: %s --help says what there is\n", error.what(), typed(app).c_str());
  return static_cast<int>(Code::configuration);
}

// With a place in front the line is one that editors understand; without, it says that it is an error.
int report(const Error& error) {
  std::fprintf(stderr, "%s%s\n", error.where().empty() ? "error: " : "", error.what());
  return static_cast<int>(error.code());
}

// A file that is opened while one of the three is closed would take its number, and be written to by every message. The null
// device stands in; for output it is opened for reading, so that writing fails and is noticed.
void hold_standard_files() {
  for (int fd = 0; fd < 3; ++fd)
    if (::fcntl(fd, F_GETFD) < 0) static_cast<void>(::open("/dev/null", fd == STDERR_FILENO ? O_WRONLY : O_RDONLY));
}

// Fewer threads than budget.compute_threads says: oneDNN waits for the others for ever. OpenMP reads them when the first library that uses it is loaded.
void leave_threads_to_the_budget() {
  for (const char* name : {"OMP_THREAD_LIMIT", "OMP_DYNAMIC", "OMP_MAX_ACTIVE_LEVELS"}) ::unsetenv(name);
}

int run(int argc, char** argv) {
  CLI::App app("Trains video models inside the memory you have.", "sluice");
  app.set_version_flag("--version", std::string("sluice ") + sdk_version);
  app.require_subcommand(1);
  app.footer("Exit codes: 0 done, 2 configuration, 3 plugin, 4 too much bad data, 5 disk, network or device, 6 watchdog, 130 and 143 after a signal.\n"
             "Example: sluice train pipelines/motion8.toml batch.size=8");

  app::Action action;
  app::add_train(app, action);
  app::add_eval(app, action);
  app::add_predict(app, action);
  app::add_check(app, action);
  app::add_plan(app, action);
  app::add_check_kernels(app, action);
  app::add_measure_plan(app, action);
  app::add_inspect(app, action);
  app::add_plugins(app, action);
  app::add_new(app, action);
  app::add_data(app, action);
  app::add_doctor(app, action);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return usage_error(app, error, argc, argv);
  }
  try {
    return action();
  } catch (const StartAfresh&) {
    begin_afresh(argv);
    return action();
  }
}

}  // namespace

int main(int argc, char** argv) {
  hold_standard_files();
  leave_threads_to_the_budget();
  std::signal(SIGXFSZ, SIG_IGN);  // a limit on the size of files is a write that fails, as a full disk is
  try {
    const int code = run(argc, argv);
    const bool flushed = std::fflush(stdout) == 0;
    if (flushed && std::ferror(stdout) == 0) return code;
    std::fprintf(stderr, "error: standard output cannot be written\n");
    return static_cast<int>(Code::io);
  } catch (const Error& error) {
    return report(error);
  } catch (const std::bad_alloc&) {
    return report(Error(Code::io, "out of memory", "close other programs, or lower budget.host_ram"));
  } catch (const std::system_error& error) {  // fmt throws it when standard output is full
    return report(Error(Code::io, error.what(), "is the disk full, or standard output closed?"));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n  hint: this is a fault of sluice itself; please report the command and the pipeline\n", error.what());
    return 1;
  }
}
