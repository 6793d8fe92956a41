// Many live streams of one model, which come and go, and share the calls of the graph: pool.py.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "pool_streams.h"

namespace lstm_edge::device {

class Pool {
 public:
  // Throws Error (LSTM_EDGE_STREAMING): the model cannot be streamed, or its streams cannot share calls;
  // (LSTM_EDGE_INPUT): a wrong number.
  Pool(std::shared_ptr<const Session> session, int64_t capacity, int64_t threads);

  // Adds a stream, at the initial state or where a snapshot was taken, and returns its id.
  int64_t attach();
  int64_t attach(std::string_view snapshot);
  void detach(int64_t id);
  // As lstm_edge_pool_push.
  void push(lstm_edge_pool_piece* pieces, size_t count);
  // One stream as a Stream, for as long as it is attached.
  std::unique_ptr<Stream> view(int64_t id);

 private:
  friend class PooledStream;

  int64_t attach(Arrays* snapshot);
  // The position of an id in ids_; throws Error (LSTM_EDGE_INPUT) if no such stream is attached.
  size_t find(int64_t id, size_t likely = 0) const;
  size_t row_of(int64_t id) const { return rows_[find(id)]; }

  const std::shared_ptr<const Session> session_;
  const int64_t capacity_;
  std::unique_ptr<Crew> crew_;
  std::unique_ptr<PoolStreams> streams_;
  int64_t last_id_ = 0;
  // The attached streams in the order of their ids, and the row of each.
  std::vector<int64_t> ids_;
  std::vector<size_t> rows_;
  std::vector<bool> used_;  // by row
  size_t lowest_free_ = 0;  // no row below it is free
  // Of the pieces of one push.
  std::vector<Pushed> pushed_;
  std::vector<uint64_t> named_;  // by row: the push that named it last
  uint64_t pushes_ = 0;
  std::vector<std::string> errors_;  // by row
};

// Refuses a model whose streams cannot share calls: pool_rows.py. Throws Error (LSTM_EDGE_STREAMING).
void check_rows(const Session& session);

}  // namespace lstm_edge::device
