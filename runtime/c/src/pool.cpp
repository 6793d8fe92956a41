#include "pool.h"

#include <algorithm>

#include "pool_store.h"
#include "stepping.h"

namespace lstm_edge::device {
namespace {

constexpr int64_t kMostThreads = 1024;  // as MOST_THREADS of providers.py

size_t checked_threads(int64_t threads) {
  if (threads >= 1 && threads <= kMostThreads) return size_t(threads);
  fail(LSTM_EDGE_INPUT, "threads must be a positive integer, at most " + std::to_string(kMostThreads) + ", got " +
                            std::to_string(threads));
}

}  // namespace

void Pushed::refuse(lstm_edge_status status, const std::string& message) const noexcept {
  try {
    *error = "stream " + std::to_string(piece->id) + ": " + message;
  } catch (const std::bad_alloc&) {
    return refuse_for_memory();
  }
  piece->outputs = nullptr;
  piece->status = status;
  piece->error = error->c_str();
}

void Pushed::refuse_for_memory() const noexcept {
  piece->outputs = nullptr;
  piece->status = LSTM_EDGE_MEMORY;
  piece->error = "not enough memory";
}

// One stream of a pool. The pool outlives it.
class PooledStream : public Stream {
 public:
  PooledStream(Pool& pool, int64_t id) : Stream(pool.session_, 1), pool_(pool), id_(id) {}

  const lstm_edge_array* push(const lstm_edge_array* inputs, size_t count) override {
    lstm_edge_pool_piece piece{};
    piece.id = id_;
    piece.inputs = inputs;
    piece.count = count;
    pool_.push(&piece, 1);
    if (piece.status != LSTM_EDGE_OK) fail(piece.status, piece.error);
    return piece.outputs;
  }
  const lstm_edge_array* flush() override {
    try {
      return pool_.streams_->flush(row());
    } catch (const Error& error) {
      fail(error.status, "stream " + std::to_string(id_) + ": " + error.message);
    }
  }
  void reset() override { pool_.streams_->reset(row()); }
  int64_t steps() const override { return pool_.streams_->steps(row()); }

 protected:
  Arrays snapshot() const override { return pool_.streams_->snapshot(row()); }
  void restore_arrays(Arrays arrays) override { pool_.streams_->restore(row(), std::move(arrays)); }

 private:
  size_t row() const { return pool_.row_of(id_); }

  Pool& pool_;
  const int64_t id_;
};

Pool::Pool(std::shared_ptr<const Session> session, int64_t capacity, int64_t threads)
    : session_(std::move(session)), capacity_(capacity) {
  check_streamable(*session_);
  const size_t count = checked_threads(threads);
  PoolStore(session_->contract.states, capacity);  // refuses a wrong capacity before the model runs
  check_rows(*session_);
  crew_ = std::make_unique<Crew>(count);
  const bool rows = is_one_to_one(session_->card.streaming);
  streams_ = rows ? make_row_streams(session_, capacity, *crew_) : make_kept_streams(session_, *crew_);
}

int64_t Pool::attach() { return attach(static_cast<Arrays*>(nullptr)); }

int64_t Pool::attach(std::string_view snapshot) {
  if (int64_t(ids_.size()) >= capacity_) return attach(static_cast<Arrays*>(nullptr));  // refuses first that it is full
  Arrays arrays = read_snapshot(snapshot);
  return attach(&arrays);
}

int64_t Pool::attach(Arrays* snapshot) {
  if (int64_t(ids_.size()) >= capacity_) {
    fail(LSTM_EDGE_INPUT, "the pool is full: all " + std::to_string(capacity_) +
                              " streams are attached; detach one, or make a pool with a larger capacity");
  }
  size_t row = lowest_free_;
  while (row < used_.size() && used_[row]) ++row;
  if (row == used_.size()) {
    pushed_.resize(row + 1);
    named_.resize(row + 1);
    errors_.resize(row + 1);
    used_.push_back(false);
  }
  if (ids_.capacity() == ids_.size()) {
    ids_.reserve(2 * ids_.size() + 1);
    rows_.reserve(2 * ids_.size() + 1);
  }
  streams_->attach(row, snapshot);
  // From here on nothing fails.
  used_[row] = true;
  lowest_free_ = row + 1;
  ids_.push_back(++last_id_);
  rows_.push_back(row);
  return last_id_;
}

void Pool::detach(int64_t id) {
  const size_t at = find(id);
  const size_t row = rows_[at];
  streams_->detach(row);
  used_[row] = false;
  lowest_free_ = std::min(lowest_free_, row);
  ids_.erase(ids_.begin() + std::ptrdiff_t(at));
  rows_.erase(rows_.begin() + std::ptrdiff_t(at));
}

size_t Pool::find(int64_t id, size_t likely) const {
  if (likely < ids_.size() && ids_[likely] == id) return likely;
  const auto found = std::lower_bound(ids_.begin(), ids_.end(), id);
  if (found != ids_.end() && *found == id) return size_t(found - ids_.begin());
  fail(LSTM_EDGE_INPUT, "no stream with the id " + std::to_string(id) +
                            " is attached to the pool: attach() gives ids, and detach() ends them");
}

void Pool::push(lstm_edge_pool_piece* pieces, size_t count) {
  ++pushes_;
  size_t likely = 0;
  for (size_t i = 0; i < count; ++i) {
    const size_t at = find(pieces[i].id, likely);
    likely = at + 1;
    const size_t row = rows_[at];
    if (named_[row] == pushes_) {
      fail(LSTM_EDGE_INPUT, "the stream with the id " + std::to_string(pieces[i].id) +
                                " is given twice in one push: push its pieces one after the other");
    }
    named_[row] = pushes_;
    pushed_[i] = {&pieces[i], row, &errors_[row]};
  }
  if (count > 0) streams_->push(pushed_.data(), count);
}

std::unique_ptr<Stream> Pool::view(int64_t id) {
  find(id);
  return std::make_unique<PooledStream>(*this, id);
}

}  // namespace lstm_edge::device
