// What benchmarks/c_library.py and pool.py time from C: pushes of streams and pools of the C library, and runs of
// onnxruntime alone on bound buffers in a session with the same options and kernels. Each function returns a time; the
// clock is read around each call, as kernel_calls.py does it in Python.
#include <time.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lstm_edge.hpp"
#include "session.h"

namespace {

using lstm_edge::device::Lent;

thread_local std::string error;

double now_us() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return double(time.tv_sec) * 1e6 + double(time.tv_nsec) / 1e3;
}

std::string bytes_of(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

template <typename Call>
double median_us(int64_t settling, int64_t calls, const Call& call) {
  std::vector<double> times;
  times.reserve(size_t(calls));
  for (int64_t i = 0; i < settling; ++i) call();
  for (int64_t i = 0; i < calls; ++i) {
    const double start = now_us();
    call();
    times.push_back(now_us() - start);
  }
  std::nth_element(times.begin(), times.begin() + calls / 2, times.end());
  return times[size_t(calls / 2)];
}

lstm_edge_array frame_of(std::vector<float>& x) {
  lstm_edge_array array{};
  array.dtype = LSTM_EDGE_FLOAT32;
  array.rank = 1;
  array.shape[0] = int64_t(x.size());
  array.data = x.data();
  return array;
}

// Runs of a graph on bound buffers: the states go from one set to the other and back.
class Bare {
 public:
  Bare(std::shared_ptr<const lstm_edge::device::Graph> graph, const lstm_edge::device::Contract& contract,
       const std::vector<float>& x)
      : graph_(std::move(graph)), x_(x) {
    output_.resize(size_t(std::get<int64_t>(contract.outputs[0].axes.back())));
    for (auto& set : states_) {
      for (const auto& state : contract.states) {
        set.emplace_back(LSTM_EDGE_FLOAT32, lstm_edge::device::state_shape(state, 1));
      }
    }
    for (const size_t from : {0, 1}) {
      std::vector<Lent> inputs{{contract.inputs[0].name, LSTM_EDGE_FLOAT32, {1, 1, int64_t(x_.size())}, x_.data()}};
      std::vector<Lent> outputs{
          {contract.outputs[0].name, LSTM_EDGE_FLOAT32, {1, 1, int64_t(output_.size())}, output_.data()}};
      for (size_t i = 0; i < contract.states.size(); ++i) {
        auto &old = states_[from][i], &next = states_[1 - from][i];
        inputs.push_back({contract.states[i].input, LSTM_EDGE_FLOAT32, old.shape, old.data<float>()});
        outputs.push_back({contract.states[i].output, LSTM_EDGE_FLOAT32, next.shape, next.data<float>()});
      }
      bound_[from] = graph_->bind(inputs, outputs);
    }
  }

  void run() { bound_[turn_ ^= 1]->run(); }

 private:
  std::shared_ptr<const lstm_edge::device::Graph> graph_;
  std::vector<float> x_, output_;
  std::array<std::vector<lstm_edge::device::Array>, 2> states_;
  std::array<std::unique_ptr<lstm_edge::device::Binding>, 2> bound_;
  size_t turn_ = 0;
};

struct Steps {
  Steps(const char* model, const char* onnxruntime, const float* frame, int64_t size) : x(frame, frame + size) {
    lstm_edge_options options = LSTM_EDGE_OPTIONS_INIT;
    options.onnxruntime = onnxruntime;
    options.kernels = LSTM_EDGE_KERNELS_REQUIRED;
    lstm_edge::check(lstm_edge_open(model, &options, &session));
    lstm_edge::check(lstm_edge_stream_open(session, 1, &stream));
    const std::string bytes = bytes_of(model);
    const lstm_edge::device::Session own(bytes, {onnxruntime, LSTM_EDGE_KERNELS_REQUIRED, 1});
    bare = std::make_unique<Bare>(lstm_edge::device::open_graph(bytes, {onnxruntime, 1, true, {}, nullptr}),
                                  own.contract, x);
  }
  ~Steps() {
    lstm_edge_stream_close(stream);
    lstm_edge_close(session);
  }

  std::vector<float> x;
  lstm_edge_session* session = nullptr;
  lstm_edge_stream* stream = nullptr;
  std::unique_ptr<Bare> bare;
};

template <typename Call>
auto guarded(const Call& call) -> decltype(call()) {
  try {
    return call();
  } catch (const std::exception& caught) {
    error = caught.what();
    return {};
  }
}

// Many streams of a model, each with its frame: those of a pool, or each for itself.
struct Streams {
  Streams(const char* model, const char* onnxruntime, const float* frames, int64_t streams, int64_t size, bool pooled)
      : session(model, options_of(onnxruntime)) {
    if (pooled) pool.emplace(session.pool(streams));
    for (int64_t i = 0; i < streams; ++i) x.emplace_back(frames + i * size, frames + (i + 1) * size);
    for (std::vector<float>& frame : x) arrays.push_back(frame_of(frame));
    for (const lstm_edge_array& array : arrays) {
      if (pool) pieces.push_back({pool->attach(), &array, 1, nullptr, LSTM_EDGE_OK, nullptr});
      else alone.push_back(session.stream());
    }
  }
  static lstm_edge_options options_of(const char* onnxruntime) {
    lstm_edge_options options = LSTM_EDGE_OPTIONS_INIT;
    options.onnxruntime = onnxruntime;
    return options;
  }
  void tick() {
    if (pool) pool->push({pieces.data(), pieces.size()});
    for (const lstm_edge_pool_piece& piece : pieces) {
      if (piece.status != LSTM_EDGE_OK) throw lstm_edge::Error(piece.status, piece.error);
    }
    for (size_t i = 0; i < alone.size(); ++i) alone[i].push(arrays[i]);
  }

  lstm_edge::Session session;
  std::optional<lstm_edge::Pool> pool;
  std::vector<std::vector<float>> x;
  std::vector<lstm_edge_array> arrays;
  std::vector<lstm_edge_pool_piece> pieces;
  std::vector<lstm_edge::Stream> alone;
};

}  // namespace

extern "C" {

// The sentence of what failed last; a function that fails returns null or 0.
LSTM_EDGE_API const char* steps_error() { return error.c_str(); }

// Opens an int8 or float32 model of one input [1, 1, size] and one output; `frame` is pushed again and again.
LSTM_EDGE_API void* steps_open(const char* model, const char* onnxruntime, const float* frame, int64_t size) {
  return guarded([&]() -> void* { return new Steps(model, onnxruntime, frame, size); });
}
LSTM_EDGE_API void steps_close(void* steps) { delete static_cast<Steps*>(steps); }

// The median of `calls` pushes in microseconds, after `settling` others.
LSTM_EDGE_API double steps_push(void* opened, int64_t settling, int64_t calls) {
  auto& steps = *static_cast<Steps*>(opened);
  const lstm_edge_array frame = frame_of(steps.x);
  return guarded([&] {
    return median_us(settling, calls, [&] {
      const lstm_edge_array* outputs = nullptr;
      lstm_edge::check(lstm_edge_stream_push(steps.stream, &frame, 1, &outputs));
    });
  });
}

// The same of runs on bound buffers.
LSTM_EDGE_API double steps_bare(void* opened, int64_t settling, int64_t calls) {
  auto& steps = *static_cast<Steps*>(opened);
  return guarded([&] { return median_us(settling, calls, [&] { steps.bare->run(); }); });
}

// The answer to one push of `x` [size] into `y`, of the output's size; 1, or 0 after a failure.
LSTM_EDGE_API int steps_answer(void* opened, const float* x, float* y) {
  auto& steps = *static_cast<Steps*>(opened);
  std::vector<float> copy(x, x + steps.x.size());
  const lstm_edge_array frame = frame_of(copy);
  return guarded([&] {
    const lstm_edge_array* outputs = nullptr;
    lstm_edge::check(lstm_edge_stream_push(steps.stream, &frame, 1, &outputs));
    size_t count = 1;
    for (int32_t i = 0; i < outputs[0].rank; ++i) count *= size_t(outputs[0].shape[i]);
    std::memcpy(y, outputs[0].data, count * sizeof(float));
    return 1;
  });
}
LSTM_EDGE_API int steps_reset(void* opened) {
  return guarded([&] {
    lstm_edge::check(lstm_edge_stream_reset(static_cast<Steps*>(opened)->stream));
    return 1;
  });
}

// Continues from the bytes of a snapshot.
LSTM_EDGE_API int steps_restore(void* opened, const void* bytes, size_t size) {
  return guarded([&] {
    lstm_edge::check(lstm_edge_stream_restore(static_cast<Steps*>(opened)->stream, bytes, size));
    return 1;
  });
}

// Microseconds from the file on the disk to the first answer in this process: of the library, or (`bare`) of
// onnxruntime alone with the same options and kernels. Each belongs into a new process.
LSTM_EDGE_API double steps_first(const char* model, const char* onnxruntime, const float* frame, int64_t size,
                                 const char* const* operators, int64_t count) {
  return guarded([&] {
    std::vector<float> x(frame, frame + size);
    const double start = now_us();
    if (operators == nullptr) {
      lstm_edge_options options = LSTM_EDGE_OPTIONS_INIT;
      options.onnxruntime = onnxruntime;
      lstm_edge_session* session = nullptr;
      lstm_edge_stream* stream = nullptr;
      lstm_edge::check(lstm_edge_open(model, &options, &session));
      lstm_edge::check(lstm_edge_stream_open(session, 1, &stream));
      const lstm_edge_array array = frame_of(x);
      const lstm_edge_array* outputs = nullptr;
      lstm_edge::check(lstm_edge_stream_push(stream, &array, 1, &outputs));
      return now_us() - start;
    }
    const auto graph = lstm_edge::device::open_graph(
        bytes_of(model), {onnxruntime, 1, count > 0, {operators, operators + count}, nullptr});
    std::vector<lstm_edge::device::Array> arrays;
    std::vector<Lent> inputs;
    std::vector<std::string> outputs;
    for (const auto& input : graph->inputs) {
      lstm_edge::device::Shape shape;
      for (const auto& axis : input.axes) {
        const auto* fixed = std::get_if<int64_t>(&axis);
        shape.push_back(fixed == nullptr ? 1 : *fixed);
      }
      arrays.emplace_back(LSTM_EDGE_FLOAT32, shape);
      if (inputs.empty()) std::memcpy(arrays.back().data<float>(), x.data(), x.size() * sizeof(float));
      inputs.push_back({input.name, LSTM_EDGE_FLOAT32, shape, arrays.back().data<float>()});
    }
    for (const auto& output : graph->outputs) outputs.push_back(output.name);
    graph->run(inputs, outputs);
    return now_us() - start;
  });
}

// Opens a model of one input [1, 1, size] for `streams` streams with a frame each: `frames` [streams, size].
LSTM_EDGE_API void* streams_open(const char* model, const char* onnxruntime, const float* frames, int64_t streams,
                                 int64_t size, int32_t pooled) {
  return guarded([&]() -> void* { return new Streams(model, onnxruntime, frames, streams, size, pooled != 0); });
}
LSTM_EDGE_API void streams_close(void* streams) { delete static_cast<Streams*>(streams); }

// The median in microseconds of `calls` times a push of all streams, after `settling` others.
LSTM_EDGE_API double streams_tick(void* opened, int64_t settling, int64_t calls) {
  return guarded([&] { return median_us(settling, calls, [&] { static_cast<Streams*>(opened)->tick(); }); });
}

}  // extern "C"
