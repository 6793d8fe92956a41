#include "pool_store.h"

#include <new>

#include "error.h"
#include "states.h"

namespace lstm_edge::device {
namespace {

constexpr size_t kLine = 64;  // bytes of a cache line

size_t checked(int64_t capacity) {
  if (capacity < 1) fail(LSTM_EDGE_INPUT, "capacity must be a positive integer, got " + std::to_string(capacity));
  return size_t(capacity);
}

[[noreturn]] void fail_for_memory(int64_t capacity) {
  fail(LSTM_EDGE_INPUT,
       "the states of " + std::to_string(capacity) + " streams cannot be made (there is not enough memory for it)");
}

}  // namespace

PoolStore::PoolStore(const std::vector<StateSpec>& states, int64_t capacity) : capacity(checked(capacity)) {
  std::vector<size_t> offsets;
  size_t bytes = kLine;
  for (const StateSpec& spec : states) {
    Table table;
    table.dtype = dtype_of(spec.dtype);
    table.shape = state_shape(spec, 1);
    table.slices = RowSlices(spec.axes, table.shape, table.dtype);
    offsets.push_back(bytes);
    size_t size = 0;
    if (__builtin_mul_overflow(table.slices.row_bytes(), this->capacity, &size) ||
        __builtin_mul_overflow(size, size_t{2}, &size) || size > SIZE_MAX / 4 ||
        __builtin_add_overflow(bytes, (size + kLine - 1) / kLine * kLine, &bytes)) {
      fail_for_memory(capacity);
    }
    side_by_side = side_by_side && table.slices.has_batch && table.slices.before == 1;
    any_shared = any_shared || !table.slices.has_batch;
    tables.push_back(std::move(table));
  }
  // Memory from calloc is not touched before a stream uses it.
  block_.reset(static_cast<char*>(std::calloc(bytes, 1)));
  if (block_ == nullptr) fail_for_memory(capacity);
  const size_t past = reinterpret_cast<uintptr_t>(block_.get()) % kLine;
  for (size_t i = 0; i < tables.size(); ++i) tables[i].data = block_.get() + offsets[i] - past;
}

std::vector<Array> PoolStore::read(size_t row) const {
  std::vector<Array> states;
  for (const Table& table : tables) {
    states.emplace_back(table.dtype, table.shape);
    table.slices.copy(states.back().data<char>(), 1, at(table, row, rows[row].place), 2 * capacity);
  }
  return states;
}

void PoolStore::write(size_t row, const std::vector<Array>& states) {
  const bool other = !rows[row].place;
  for (size_t i = 0; i < tables.size(); ++i) {
    tables[i].slices.copy(at(tables[i], row, other), 2 * capacity, states[i].data<char>(), 1);
  }
  rows[row].place = other;
}

void PoolStore::clear(size_t row) {
  for (const Table& table : tables) {
    char* to = at(table, row, rows[row].place);
    for (size_t i = 0; i < table.slices.before; ++i) {
      std::memset(to + i * 2 * capacity * table.slices.bytes, 0, table.slices.bytes);
    }
  }
}

bool PoolStore::shares(size_t row, size_t other) const {
  for (const Table& table : tables) {
    if (table.slices.has_batch) continue;
    const char* mine = at(table, row, rows[row].place);
    if (std::memcmp(mine, at(table, other, rows[other].place), table.slices.bytes) != 0) return false;
  }
  return true;
}

void PoolStore::gather(size_t row, const std::vector<char*>& buffers, size_t at_row, size_t buffer_rows,
                       bool first) const {
  const bool place = rows[row].place;
  for (size_t i = 0; i < tables.size(); ++i) {
    const RowSlices& slices = tables[i].slices;
    if (slices.has_batch) {
      slices.copy(buffers[i] + at_row * slices.bytes, buffer_rows, at(tables[i], row, place), 2 * capacity);
    } else if (first) {
      slices.copy(buffers[i], 1, at(tables[i], row, place), 1);
    }
  }
}

void PoolStore::scatter(size_t row, const std::vector<char*>& buffers, size_t at_row, size_t buffer_rows) const {
  const bool other = !rows[row].place;
  for (size_t i = 0; i < tables.size(); ++i) {
    const RowSlices& slices = tables[i].slices;
    const char* from = slices.has_batch ? buffers[i] + at_row * slices.bytes : buffers[i];
    slices.copy(at(tables[i], row, other), 2 * capacity, from, buffer_rows);
  }
}

bool PoolStore::align(size_t first, size_t count) {
  bool same = true;
  for (size_t row = first; row < first + count; ++row) same = same && rows[row].place == rows[first].place;
  if (same) return rows[first].place;
  for (size_t row = first; row < first + count; ++row) {
    if (!rows[row].place) continue;
    for (const Table& table : tables) {
      table.slices.copy(at(table, row, false), 2 * capacity, at(table, row, true), 2 * capacity);
    }
    rows[row].place = false;
  }
  return false;
}

}  // namespace lstm_edge::device
