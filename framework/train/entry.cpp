// The exported functions of libsluice_train.so.
#include "framework/train/entry.hpp"

#include <c10/util/Exception.h>

#include <sluice/error.hpp>
#include <sluice/torch/fingerprint.hpp>

#include "framework/base/afresh.hpp"
#include "framework/memory/process.hpp"
#include "framework/train/capped_allocator.hpp"
#include "framework/train/device.hpp"
#include "framework/train/evaluation_run.hpp"
#include "framework/train/housekeeping.hpp"
#include "framework/train/kernel_audit.hpp"
#include "framework/train/lost_device.hpp"
#include "framework/train/measured_steps.hpp"
#include "framework/train/saved_tensors.hpp"
#include "framework/train/threads.hpp"
#include "framework/train/training_run.hpp"

namespace {

int dispatch(const sluice::TrainRequest& request, sluice::Housekeeping& housekeeping, sluice::Reporter& reporter) {
  using Verb = sluice::TrainRequest::Verb;
  if (request.verb == Verb::train) return sluice::run_training(request, housekeeping, reporter);
  housekeeping.on_stop_end_at_once();
  if (request.verb == Verb::eval) return sluice::run_evaluation(request, housekeeping, reporter);
  if (request.verb == Verb::predict) return sluice::run_prediction(request, housekeeping, reporter);
  if (request.verb == Verb::plan) return sluice::run_plan(request, housekeeping, reporter);
  if (request.verb == Verb::measure_plan) return sluice::measure_plan_in_child(request, housekeeping, reporter);
  if (request.verb == Verb::doctor) return sluice::run_preflight(request, housekeeping, reporter);
  return sluice::run_check(request, housekeeping, reporter);
}

}  // namespace

extern "C" {

[[gnu::visibility("default")]] const char* sluice_train_fingerprint() { return sluice::fingerprint.data(); }

[[gnu::visibility("default")]] int sluice_train_check_kernels() {
  sluice::pin_malloc();
  sluice::settle_threads_first();
  return sluice::check_kernels_in_child();
}

[[gnu::visibility("default")]] void sluice_train_libtorch(sluice::LibTorchReport& report) { report = sluice::libtorch_report(); }

[[gnu::visibility("default")]] int sluice_train_run(const sluice::TrainRequest& request) {
  sluice::pin_malloc();
  sluice::settle_threads_first();
  sluice::CappedAllocator::install();
  sluice::install_saved_tensor_hooks();
  sluice::end_with_message_where_device_is_lost();
  // What is said goes where a person looks; with --json standard output holds JSON alone.
  const bool training = request.verb == sluice::TrainRequest::Verb::train;
  sluice::Reporter reporter({.mode = request.quiet || (request.json && !training) ? sluice::Console::Mode::quiet : sluice::Console::Mode::automatic, .fd = training ? 1 : 2});
  sluice::Housekeeping housekeeping({.watchdog_seconds = request.pipeline->run.watchdog.value, .tick = [&reporter] { reporter.tick(); }});
  try {
    return sluice::on_device([] { return sluice::DeviceUse{}; }, [&] { return dispatch(request, housekeeping, reporter); });
  } catch (const sluice::StartAfresh&) {
    if (!housekeeping.stop_requested()) throw;
    return housekeeping.exit_code();
  } catch (const c10::OutOfMemoryError& error) {
    throw sluice::Error(sluice::Code::configuration, error.what_without_backtrace(), "raise budget.host_ram, or use a smaller microbatch");
  } catch (const c10::Error& error) {
    throw sluice::Error(sluice::Code::plugin, error.what_without_backtrace());
  }
}

}  // extern "C"
