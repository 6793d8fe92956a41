#include "crew.h"

#include <csignal>
#include <system_error>

#include "error.h"

namespace lstm_edge::device {
namespace {

// Threads that start while this lives get no signal: those are the caller's.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before_);
  }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

}  // namespace

Crew::Crew(size_t threads) {
  const SignalsBlocked blocked;
  try {
    for (size_t i = 1; i < threads; ++i) {
      workers_.push_back(std::make_unique<Worker>());
      Worker& worker = *workers_.back();
      worker.index = i - 1;
      worker.thread = std::thread([&worker] { serve(worker); });
    }
  } catch (const std::system_error& error) {
    end();
    fail(LSTM_EDGE_MEMORY, std::string("the threads of the pool cannot be started (") + error.code().message() +
                               "): open it with fewer threads");
  } catch (...) {
    end();
    throw;
  }
}

Crew::~Crew() { end(); }

void Crew::end() {
  for (const auto& worker : workers_) {
    if (!worker->thread.joinable()) continue;
    {
      const std::lock_guard<std::mutex> lock(worker->mutex);
      worker->ends = true;
    }
    worker->changed.notify_all();
    worker->thread.join();
  }
}

void Crew::run(size_t count, void (*work)(void* context, size_t index), void* context) {
  for (size_t i = 0; i + 1 < count; ++i) {
    Worker& worker = *workers_[i];
    {
      const std::lock_guard<std::mutex> lock(worker.mutex);
      worker.work = work;
      worker.context = context;
      worker.busy = true;
    }
    worker.changed.notify_all();
  }
  work(context, count - 1);
  for (size_t i = 0; i + 1 < count; ++i) {
    Worker& worker = *workers_[i];
    std::unique_lock<std::mutex> lock(worker.mutex);
    worker.changed.wait(lock, [&] { return !worker.busy; });
  }
}

void Crew::serve(Worker& worker) {
  std::unique_lock<std::mutex> lock(worker.mutex);
  while (true) {
    worker.changed.wait(lock, [&] { return worker.busy || worker.ends; });
    if (!worker.busy) return;
    lock.unlock();
    worker.work(worker.context, worker.index);
    lock.lock();
    worker.busy = false;
    worker.changed.notify_all();
  }
}

}  // namespace lstm_edge::device
