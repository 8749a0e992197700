// What the thread budget relies on: with one call first, and one on each thread, LibTorch has n - 1 threads beside ours.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/conv3d.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <barrier>
#include <filesystem>
#include <iterator>
#include <thread>
#include <vector>

namespace {

int thread_count() {
  return static_cast<int>(std::distance(std::filesystem::directory_iterator("/proc/self/task"), {}));
}

// Each in a process of its own: LibTorch's teams are made once. The child's answer is its exit status.
template <class Body>
int in_child(Body body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void work() {
  const at::Tensor big = at::ones({256, 256});
  at::mm(big, big).add_(1).sum();
  at::conv3d(at::ones({2, 8, 8, 32, 32}), at::ones({8, 8, 3, 3, 3})).relu_();
}

// The order that the thread cap rests on: 1 first for the whole process, then each thread settles its own number.
// All are alive when they are counted, so that no thread on its way out counts.
int threads_at_work(int trainer_threads, int workers) {
  at::set_num_threads(1);   // without this line: 15 threads instead of 9 for a trainer with 7 and one worker
  std::barrier met(1 + workers + 1), counted(1 + workers + 1);
  const auto run = [&](int threads) {
    at::get_num_threads();
    at::set_num_threads(threads);
    work();
    met.arrive_and_wait();
    counted.arrive_and_wait();
  };
  std::vector<std::jthread> all;
  all.emplace_back(run, trainer_threads);
  for (int i = 0; i < workers; ++i) all.emplace_back(run, 1);
  met.arrive_and_wait();
  const int count = thread_count();
  counted.arrive_and_wait();
  return count;
}

}  // namespace

// Mistake caught: a version that starts a pool of its own size, so that the process has more threads than was declared.
TEST_CASE("a trainer with n threads has n - 1 helpers, and workers set to one have none") {
  for (int n : {1, 2, 3, 7})
    for (int workers : {1, 3}) {
      CAPTURE(n);
      CAPTURE(workers);
      CHECK(in_child([=] { return threads_at_work(n, workers); }) == 1 + n + workers);
    }
}

// Mistake caught: a thread count that does not reach the thread that asks for it: 17 digits depend on it.
TEST_CASE("the number that a thread set is the number that it has, after other threads have set theirs") {
  CHECK(in_child([] {
          at::set_num_threads(1);
          int seen = 0;
          std::thread([] {
            at::get_num_threads();
            at::set_num_threads(3);
            work();
          }).join();
          std::thread([&seen] {
            at::get_num_threads();
            at::set_num_threads(1);
            work();
            seen = at::get_num_threads();
          }).join();
          return seen;
        }) == 1);
}
