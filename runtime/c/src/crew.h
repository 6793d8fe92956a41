// A few threads that do work at once, for a pool: crew.py.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace lstm_edge::device {

// The caller's thread and some more, which end with the crew.
class Crew {
 public:
  // Starts threads - 1 threads; throws Error (LSTM_EDGE_MEMORY) if the system has none.
  explicit Crew(size_t threads);
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;
  ~Crew();

  size_t threads() const { return workers_.size() + 1; }
  // Calls work(context, 0) to work(context, count - 1) at once, the last one in the caller's thread, and returns when
  // all have ended. `count` is at most threads(); `work` does not throw.
  void run(size_t count, void (*work)(void* context, size_t index), void* context);

 private:
  struct Worker {
    std::mutex mutex;
    std::condition_variable changed;
    bool busy = false, ends = false;
    void (*work)(void* context, size_t index) = nullptr;
    void* context = nullptr;
    size_t index = 0;
    std::thread thread;
  };

  static void serve(Worker& worker);
  void end();

  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace lstm_edge::device
