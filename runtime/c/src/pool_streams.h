// The streams of a pool by their rows, as Pool (pool.h) uses them: those that run as rows of one store
// (pool_streams.py) and those that keep steps (pool_kept.py).
#pragma once

#include <exception>
#include <memory>
#include <new>
#include <string>

#include "crew.h"
#include "error.h"
#include "stream.h"

namespace lstm_edge::device {

// A piece of a push, and where its stream is. Its answer, or its refusal, goes into the caller's piece.
struct Pushed {
  lstm_edge_pool_piece* piece = nullptr;
  size_t row = 0;
  std::string* error = nullptr;  // holds the sentence of a refusal

  void answer(const lstm_edge_array* outputs) const {
    piece->outputs = outputs;
    piece->status = LSTM_EDGE_OK;
    piece->error = "";
  }
  void refuse(lstm_edge_status status, const std::string& message) const noexcept;
  // Runs `work`; what it throws refuses this stream. Returns whether it ended well.
  template <typename Work>
  bool guard(const Work& work) const noexcept {
    try {
      work();
      return true;
    } catch (const Error& error) {
      refuse(error.status, error.message);
    } catch (const std::bad_alloc&) {
      refuse_for_memory();
    } catch (const std::exception& error) {
      refuse(LSTM_EDGE_MISUSE, error.what());
    }
    return false;
  }
  void refuse_for_memory() const noexcept;
};

// Rows are the caller's, and are valid. What a function throws leaves the stream as it was.
class PoolStreams {
 public:
  virtual ~PoolStreams() = default;

  // Starts a stream in a row that is free, at the initial state or at that of a snapshot.
  virtual void attach(size_t row, Arrays* snapshot) = 0;
  virtual void detach(size_t row) = 0;
  virtual int64_t steps(size_t row) const = 0;
  virtual void reset(size_t row) = 0;
  virtual const lstm_edge_array* flush(size_t row) = 0;
  virtual Arrays snapshot(size_t row) const = 0;
  virtual void restore(size_t row, Arrays arrays) = 0;
  // Gives each piece an answer or a refusal; the rows differ.
  virtual void push(const Pushed* pieces, size_t count) = 0;
};

std::unique_ptr<PoolStreams> make_row_streams(std::shared_ptr<const Session> session, int64_t capacity, Crew& crew);
std::unique_ptr<PoolStreams> make_kept_streams(std::shared_ptr<const Session> session, Crew& crew);

// A thread gets work from this many bytes of the file times rows times steps on (pool_calls.py has the reasons, and a
// test compares both).
constexpr int64_t kLeastWork = 20000000;
// How many threads share a call.
size_t share_of_threads(const Crew& crew, size_t rows, int64_t steps, int64_t size_bytes);

}  // namespace lstm_edge::device
