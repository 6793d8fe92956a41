// Does with every file of a folder all that a file is for, so that a sanitizer sees it: open, describe, test, run,
// stream, save, restore, alone and in a pool; also with arguments that must be refused.
//   exercise ONNXRUNTIME FOLDER          each file, with kernels and with function bodies
//   exercise ONNXRUNTIME MODEL THREADS   threads on one session: runs, a stream and a pool for each; equal bits
#include <dirent.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "drawn.h"

namespace {

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// Reads every byte that a call returned, so that a sanitizer sees a wrong pointer.
uint64_t sum_of(const lstm_edge_array& array) {
  size_t size = drawn::item_size(array.dtype);
  for (int32_t i = 0; i < array.rank; ++i) size *= static_cast<size_t>(array.shape[i]);
  uint64_t sum = std::strlen(array.name);
  for (size_t i = 0; i < size; ++i) sum = sum * 31 + static_cast<const unsigned char*>(array.data)[i];
  return sum;
}

void visit(void* context, const lstm_edge_array* array) { *static_cast<uint64_t*>(context) += sum_of(*array); }

size_t output_count(const lstm_edge_session* session) {
  lstm_edge_tensor tensor;
  size_t count = 0;
  while (lstm_edge_tensor_at(session, LSTM_EDGE_OUTPUTS, count, &tensor) == LSTM_EDGE_OK) ++count;
  return count;
}

void run(const lstm_edge_session* session, const drawn::Inputs& inputs) {
  uint64_t sum = 0;
  const auto* arrays = inputs.arrays.data();
  const size_t count = inputs.arrays.size();
  const int64_t lengths[2] = {1, 0}, wrong[2] = {-1, INT64_MAX};
  for (const int64_t* given : {static_cast<const int64_t*>(nullptr), lengths, wrong}) {
    for (int32_t end : {1, 0}) lstm_edge_run(session, arrays, count, given, end, visit, &sum);
  }
  lstm_edge_run(session, nullptr, 0, nullptr, 1, visit, &sum);
  lstm_edge_run(session, arrays, count, nullptr, 1, nullptr, nullptr);
  for (size_t i = 0; i < count; ++i) {  // shapes and types that lie
    for (int kind = 0; kind < 7; ++kind) {
      auto changed = inputs.arrays;
      lstm_edge_array& array = changed[i];
      if (kind == 0) array.rank = 0;
      if (kind == 1) array.rank = LSTM_EDGE_MOST_AXES + 1;
      if (kind == 2) array.rank = -1;
      if (kind == 3 && array.rank > 0) array.shape[0] = -5;
      if (kind == 4) array.dtype = static_cast<lstm_edge_dtype>(99);
      if (kind == 5) array.name = nullptr;
      if (kind == 6) array.data = nullptr;
      lstm_edge_run(session, changed.data(), count, nullptr, 1, visit, &sum);
    }
  }
}

// Saves, restores damaged archives (which may change nothing), and restores the good one.
void save_and_restore(lstm_edge_stream* stream) {
  const void* bytes = nullptr;
  size_t size = 0;
  if (lstm_edge_stream_save(stream, &bytes, &size) != LSTM_EDGE_OK) return;
  const std::string archive(static_cast<const char*>(bytes), size);
  for (size_t cut = 0; cut < size; cut += 1 + size / 23) lstm_edge_stream_restore(stream, archive.data(), cut);
  for (size_t at = 0; at < size; at += 1 + size / 61) {
    std::string changed = archive;
    changed[at] = static_cast<char>(changed[at] ^ (1 << (at % 8)));
    lstm_edge_stream_restore(stream, changed.data(), changed.size());
  }
  lstm_edge_stream_restore(stream, archive.data(), archive.size());
}

void stream(lstm_edge_session* session, int64_t batch) {
  lstm_edge_stream* stream = nullptr;
  if (lstm_edge_stream_open(session, batch, &stream) != LSTM_EDGE_OK) return;
  const size_t outputs = output_count(session);
  uint64_t sum = 0;
  const lstm_edge_array* answers = nullptr;
  const auto push = [&](const drawn::Inputs& inputs) {
    if (lstm_edge_stream_push(stream, inputs.arrays.data(), inputs.arrays.size(), &answers) != LSTM_EDGE_OK) return;
    for (size_t i = 0; i < outputs; ++i) sum += sum_of(answers[i]);
  };
  for (int64_t steps : {3, 0, 1, 0, 5, 2, 3, 4, 6, 7, 8, 9, 10, 11}) push(drawn::draw(session, batch, steps));
  drawn::Inputs bad = drawn::draw(session, batch, 2);
  for (auto& array : bad.arrays) {
    if (array.dtype == LSTM_EDGE_FLOAT32) static_cast<float*>(array.data)[0] = std::nanf("");
  }
  push(bad);
  save_and_restore(stream);
  push(drawn::draw(session, batch, 3));
  if (lstm_edge_stream_flush(stream, &answers) == LSTM_EDGE_OK) {
    for (size_t i = 0; i < outputs; ++i) sum += sum_of(answers[i]);
  }
  push(drawn::draw(session, batch, 1));
  save_and_restore(stream);
  lstm_edge_stream_reset(stream);
  push(drawn::draw(session, batch, 1));
  lstm_edge_stream_close(stream);
}

// Streams that come and go, pieces of several forms and wrong ones in one push; returns the sum of all answers.
uint64_t pool(lstm_edge_session* session, int32_t threads, int64_t longest) {
  lstm_edge_pool_options options = LSTM_EDGE_POOL_OPTIONS_INIT;
  options.capacity = 19;
  options.threads = threads;
  lstm_edge_pool* pool = nullptr;
  if (lstm_edge_pool_open(session, &options, &pool) != LSTM_EDGE_OK) return 0;
  const size_t outputs = output_count(session);
  uint64_t sum = 1;
  int64_t id = 0, last = 0;
  while (lstm_edge_pool_attach(pool, nullptr, 0, &id) == LSTM_EDGE_OK) last = id;
  std::vector<drawn::Inputs> drawings;
  for (int64_t steps : {int64_t{0}, int64_t{1}, int64_t{3}, longest})
    drawings.push_back(drawn::draw(session, 1, steps));
  drawn::Inputs bad = drawn::draw(session, 1, 1);
  for (auto& array : bad.arrays) {
    if (array.dtype == LSTM_EDGE_FLOAT32) static_cast<float*>(array.data)[0] = std::nanf("");
    else if (array.rank < LSTM_EDGE_MOST_AXES) array.shape[array.rank++] = 1;
  }
  drawings.push_back(std::move(bad));
  for (int turn = 0; turn < 24; ++turn) {
    std::vector<lstm_edge_pool_piece> pieces;
    for (int64_t each = 1; each <= last; ++each) {
      if (turn % 4 == 3 && each % 3 == 0) continue;
      lstm_edge_pool_piece piece{};
      piece.id = turn % 2 == 0 ? each : last + 1 - each;
      const bool alike = turn % 8 < 4;
      const drawn::Inputs& inputs = drawings[alike ? size_t(turn) % 4 : size_t(each + turn) % drawings.size()];
      piece.inputs = inputs.arrays.data();
      piece.count = inputs.arrays.size();
      pieces.push_back(piece);
    }
    if (turn == 9) pieces.back().inputs = nullptr;
    lstm_edge_pool_push(pool, pieces.data(), pieces.size());
    for (const lstm_edge_pool_piece& piece : pieces) {
      if (piece.error == nullptr) continue;  // an id of a stream that has left: nothing was pushed
      sum += std::strlen(piece.error);
      for (size_t i = 0; piece.status == LSTM_EDGE_OK && i < outputs; ++i) sum = sum * 31 + sum_of(piece.outputs[i]);
    }
    lstm_edge_stream* stream = nullptr;
    if (lstm_edge_pool_stream(pool, 1 + turn % last, &stream) != LSTM_EDGE_OK) continue;
    if (turn == 5 || turn == 17) save_and_restore(stream);
    const lstm_edge_array* answers = nullptr;
    if (turn == 7 && lstm_edge_stream_flush(stream, &answers) == LSTM_EDGE_OK) sum += sum_of(answers[0]);
    if (turn == 11) lstm_edge_stream_reset(stream);
    const void* bytes = nullptr;
    size_t size = 0;
    if (turn == 13 && lstm_edge_stream_save(stream, &bytes, &size) == LSTM_EDGE_OK) {
      const std::string archive(static_cast<const char*>(bytes), size);
      lstm_edge_pool_attach(pool, archive.data(), archive.size(), &id);  // full
      lstm_edge_pool_detach(pool, 2);
      lstm_edge_pool_detach(pool, 2);
      lstm_edge_pool_attach(pool, archive.data(), archive.size() / 2, &id);
      lstm_edge_pool_attach(pool, archive.data(), archive.size(), &id);
    }
  }
  lstm_edge_pool_close(pool);
  return sum;
}

// Returns whether the file was opened.
bool exercise(const std::string& bytes, const char* onnxruntime, lstm_edge_kernels kernels) {
  lstm_edge_options options = LSTM_EDGE_OPTIONS_INIT;
  options.onnxruntime = onnxruntime;
  options.kernels = kernels;
  lstm_edge_session* session = nullptr;
  // A block of its own size: one byte past the end is found.
  std::vector<char> exact(bytes.begin(), bytes.end());
  const lstm_edge_status status = lstm_edge_open_bytes(exact.data(), exact.size(), &options, &session);
  std::vector<char>().swap(exact);
  if (status != LSTM_EDGE_OK) {
    if (std::strlen(lstm_edge_error()) == 0) std::abort();
    return false;
  }
  lstm_edge_info info{};
  info.size = sizeof(info);
  if (lstm_edge_describe(session, &info) != LSTM_EDGE_OK) std::abort();
  lstm_edge_check(session, nullptr);
  for (int64_t batch : {1, 2}) {
    const drawn::Inputs inputs = drawn::draw(session, batch, 2);
    if (!inputs.possible) continue;
    run(session, inputs);
    stream(session, batch);
    if (batch == 1) pool(session, 1, 5);
  }
  lstm_edge_close(session);
  return true;
}

int each_file(const char* onnxruntime, const std::string& folder) {
  std::vector<std::string> names;
  DIR* listing = opendir(folder.c_str());
  if (listing == nullptr) return 2;
  while (const dirent* entry = readdir(listing)) {
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  }
  closedir(listing);
  std::sort(names.begin(), names.end());
  int opened = 0;
  for (const std::string& name : names) {
    const std::string bytes = read(folder + "/" + name);
    if (std::getenv("EXERCISE_NAMES") != nullptr) std::fprintf(stderr, "%s\n", name.c_str());
    for (auto kernels : {LSTM_EDGE_KERNELS_AUTO, LSTM_EDGE_KERNELS_OFF})
      opened += exercise(bytes, onnxruntime, kernels);
  }
  std::printf("%zu files, opened %d times\n", names.size(), opened);
  return names.empty() || opened == 0 ? 1 : 0;
}

int with_threads(const char* onnxruntime, const std::string& path, int count) {
  lstm_edge_options options = LSTM_EDGE_OPTIONS_INIT;
  options.onnxruntime = onnxruntime;
  lstm_edge_session* session = nullptr;
  if (lstm_edge_open(path.c_str(), &options, &session) != LSTM_EDGE_OK) {
    std::fprintf(stderr, "%s\n", lstm_edge_error());
    return 2;
  }
  std::vector<uint64_t> sums(static_cast<size_t>(count));
  std::vector<std::thread> threads;
  for (uint64_t& sum : sums) {
    threads.emplace_back([&sum, session] {
      lstm_edge_stream* stream = nullptr;
      if (lstm_edge_stream_open(session, 1, &stream) != LSTM_EDGE_OK) return;
      const drawn::Inputs inputs = drawn::draw(session, 1, 4);
      const lstm_edge_array* answers = nullptr;
      for (int i = 0; i < 60; ++i) {
        lstm_edge_run(session, inputs.arrays.data(), inputs.arrays.size(), nullptr, 1, visit, &sum);
        lstm_edge_run(session, nullptr, 0, nullptr, 1, visit, &sum);  // an error of this thread
        if (i % 20 == 0) lstm_edge_check(session, nullptr);
        if (lstm_edge_stream_push(stream, inputs.arrays.data(), inputs.arrays.size(), &answers) == LSTM_EDGE_OK) {
          sum = sum * 31 + sum_of(answers[0]);
        }
      }
      lstm_edge_stream_close(stream);
      sum = sum * 31 + pool(session, 3, 400);  // so long that the pool's own threads get work
    });
  }
  for (std::thread& thread : threads) thread.join();
  lstm_edge_close(session);
  for (uint64_t sum : sums) {
    if (sum != sums[0] || sum == 0) {
      std::fprintf(stderr, "threads of one session gave other answers\n");
      return 1;
    }
  }
  std::printf("%d threads agree\n", count);
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  if (count == 4) return with_threads(arguments[1], arguments[2], std::atoi(arguments[3]));
  if (count == 3) return each_file(arguments[1], arguments[2]);
  std::fprintf(stderr, "usage: exercise ONNXRUNTIME FOLDER | exercise ONNXRUNTIME MODEL THREADS\n");
  return 2;
}
