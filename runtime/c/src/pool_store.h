// The states of the streams of a pool: one block of memory, two places for each stream: pool_store.py.
//
// A stream's state lies in one of its two places, and a push writes the new one into the other.
#pragma once

#include <cstdlib>
#include <memory>
#include <vector>

#include "row_slices.h"
#include "view.h"

namespace lstm_edge::device {

class PoolStore {
 public:
  // What belongs to a row beside its states.
  struct Row {
    int64_t steps = 0;
    bool place = false;        // which of the two places holds the state
    bool lacks_batch = false;  // whether the last piece lacked the batch axis
    bool ended = false;
    bool holds = false;  // whether conditions were given
  };
  // The states of one name: [before, 2 * capacity, bytes of a slice]; the first places of all rows come first.
  struct Table {
    RowSlices slices;
    lstm_edge_dtype dtype = LSTM_EDGE_FLOAT32;
    Shape shape;  // for one row
    char* data = nullptr;
  };

  // Throws Error (LSTM_EDGE_INPUT): the capacity is below 1, or there is not enough memory.
  PoolStore(const std::vector<StateSpec>& states, int64_t capacity);

  char* at(const Table& table, size_t row, bool place) const {
    return table.data + (row + (place ? capacity : 0)) * table.slices.bytes;
  }
  // Copies of the states of a row; and the other way round, into the other place, which then counts.
  std::vector<Array> read(size_t row) const;
  void write(size_t row, const std::vector<Array>& states);
  // Sets the initial state.
  void clear(size_t row);
  // Whether two rows agree in the states without a batch axis, which the rows of a call share.
  bool shares(size_t row, size_t other) const;
  // Copies the state of a row to a row of buffers for some rows (`first`: the states without a batch axis too), and a
  // new state from there into the other place, which does not count yet.
  void gather(size_t row, const std::vector<char*>& buffers, size_t at_row, size_t buffer_rows, bool first) const;
  void scatter(size_t row, const std::vector<char*>& buffers, size_t at_row, size_t buffer_rows) const;
  // The place of the states of rows that lie side by side; if they are in both, they are brought into the first one.
  bool align(size_t first, size_t count);

  const size_t capacity;
  std::vector<Table> tables;  // in the order of the states
  std::vector<Row> rows;      // as many as were ever used
  bool side_by_side = true;   // whether rows that lie side by side are one piece of memory in every table
  bool any_shared = false;    // whether a state has no batch axis

 private:
  struct Free {
    void operator()(char* memory) const { std::free(memory); }
  };
  std::unique_ptr<char, Free> block_;
};

}  // namespace lstm_edge::device
