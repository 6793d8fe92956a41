// C++17 wrappers of lstm_edge.h: handles that are closed, failures as exceptions, arrays as pointer and size. There is
// no logic in it.
//
//     lstm_edge::Session session("model.onnx");
//     lstm_edge::Stream stream = session.stream();
//     const lstm_edge_array* y = stream.push(lstm_edge::array(features, {40}));
#ifndef LSTM_EDGE_HPP
#define LSTM_EDGE_HPP

#include <cstddef>
#include <cstdint>
#include <exception>
#include <initializer_list>
#include <string>
#include <type_traits>
#include <utility>

#include "lstm_edge.h"

namespace lstm_edge {

// What the library refused: the status, and the sentence of lstm_edge_error.
class Error : public std::exception {
 public:
  Error(lstm_edge_status status, std::string message) : status_(status), message_(std::move(message)) {}
  lstm_edge_status status() const noexcept { return status_; }
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  lstm_edge_status status_;
  std::string message_;
};

inline void check(lstm_edge_status status) {
  if (status != LSTM_EDGE_OK) throw Error(status, lstm_edge_error());
}

// Elements that somebody else holds.
template <typename T>
struct Span {
  T* data = nullptr;
  size_t size = 0;

  T* begin() const { return data; }
  T* end() const { return data + size; }
  T& operator[](size_t index) const { return data[index]; }
};

template <typename T>
constexpr lstm_edge_dtype dtype_of() {
  using Plain = std::remove_cv_t<T>;
  if constexpr (std::is_same_v<Plain, float>) return LSTM_EDGE_FLOAT32;
  else if constexpr (std::is_same_v<Plain, double>) return LSTM_EDGE_FLOAT64;
  else if constexpr (std::is_same_v<Plain, bool>) return LSTM_EDGE_BOOL;
  else if constexpr (std::is_same_v<Plain, uint8_t>) return LSTM_EDGE_UINT8;
  else if constexpr (std::is_same_v<Plain, int8_t>) return LSTM_EDGE_INT8;
  else if constexpr (std::is_same_v<Plain, uint16_t>) return LSTM_EDGE_UINT16;
  else if constexpr (std::is_same_v<Plain, int16_t>) return LSTM_EDGE_INT16;
  else if constexpr (std::is_same_v<Plain, uint32_t>) return LSTM_EDGE_UINT32;
  else if constexpr (std::is_same_v<Plain, int32_t>) return LSTM_EDGE_INT32;
  else if constexpr (std::is_same_v<Plain, uint64_t>) return LSTM_EDGE_UINT64;
  else {
    static_assert(std::is_same_v<Plain, int64_t>, "not an element type of lstm_edge_dtype");
    return LSTM_EDGE_INT64;
  }
}

// An array for a call; `data` has as many elements as the shape says, and is only read. `name` may be null where the
// model has one input. More than 8 axes are refused by the call that gets the array.
template <typename T>
lstm_edge_array array(const T* data, std::initializer_list<int64_t> shape, const char* name = nullptr) {
  lstm_edge_array made{};
  made.name = name;
  made.dtype = dtype_of<T>();
  made.rank = int32_t(shape.size());
  size_t axis = 0;
  for (int64_t size : shape) {
    if (axis < LSTM_EDGE_MOST_AXES) made.shape[axis++] = size;
  }
  made.data = const_cast<T*>(data);
  return made;
}

// The elements of an array that the library shows. Throws Error (LSTM_EDGE_INPUT) if they are of another type.
template <typename T>
Span<const T> elements(const lstm_edge_array& array) {
  if (array.dtype != dtype_of<T>()) {
    throw Error(LSTM_EDGE_INPUT, std::string("array '") + (array.name == nullptr ? "" : array.name) +
                                     "' has another element type than was asked for: see dtype");
  }
  size_t count = 1;
  for (int32_t i = 0; i < array.rank; ++i) count *= size_t(array.shape[i]);
  return {static_cast<const T*>(array.data), count};
}

// A stream that somebody else closes.
class StreamHandle {
 public:
  explicit StreamHandle(lstm_edge_stream* stream) : stream_(stream) {}

  // The outputs in the model's order, valid until the next call of the stream.
  const lstm_edge_array* push(Span<const lstm_edge_array> inputs) {
    const lstm_edge_array* outputs = nullptr;
    check(lstm_edge_stream_push(stream_, inputs.data, inputs.size, &outputs));
    return outputs;
  }
  const lstm_edge_array* push(const lstm_edge_array& input) { return push({&input, 1}); }
  const lstm_edge_array* flush() {
    const lstm_edge_array* outputs = nullptr;
    check(lstm_edge_stream_flush(stream_, &outputs));
    return outputs;
  }
  void reset() { check(lstm_edge_stream_reset(stream_)); }
  int64_t steps() const { return lstm_edge_stream_steps(stream_); }
  // Valid until the next call of the stream.
  Span<const std::byte> save() {
    const void* bytes = nullptr;
    size_t size = 0;
    check(lstm_edge_stream_save(stream_, &bytes, &size));
    return {static_cast<const std::byte*>(bytes), size};
  }
  void restore(Span<const std::byte> bytes) { check(lstm_edge_stream_restore(stream_, bytes.data, bytes.size)); }
  lstm_edge_stream* get() const noexcept { return stream_; }

 protected:
  lstm_edge_stream* stream_ = nullptr;
};

class Stream : public StreamHandle {
 public:
  Stream(lstm_edge_session* session, int64_t batch_size = 1) : StreamHandle(nullptr) {
    check(lstm_edge_stream_open(session, batch_size, &stream_));
  }
  Stream(Stream&& other) noexcept : StreamHandle(std::exchange(other.stream_, nullptr)) {}
  Stream& operator=(Stream&& other) noexcept {
    std::swap(stream_, other.stream_);
    return *this;
  }
  ~Stream() { lstm_edge_stream_close(stream_); }
};

// Many live streams of one model that share the calls of the graph.
class Pool {
 public:
  explicit Pool(lstm_edge_session* session, const lstm_edge_pool_options& options = LSTM_EDGE_POOL_OPTIONS_INIT) {
    check(lstm_edge_pool_open(session, &options, &pool_));
  }
  Pool(Pool&& other) noexcept : pool_(std::exchange(other.pool_, nullptr)) {}
  Pool& operator=(Pool&& other) noexcept {
    std::swap(pool_, other.pool_);
    return *this;
  }
  ~Pool() { lstm_edge_pool_close(pool_); }

  // Adds a stream at the initial state, or one that goes on from what `save` gave; returns its id.
  int64_t attach(Span<const std::byte> snapshot = {}) {
    int64_t id = 0;
    check(lstm_edge_pool_attach(pool_, snapshot.data, snapshot.size, &id));
    return id;
  }
  void detach(int64_t id) { check(lstm_edge_pool_detach(pool_, id)); }
  // Valid until the stream is detached.
  StreamHandle stream(int64_t id) {
    lstm_edge_stream* stream = nullptr;
    check(lstm_edge_pool_stream(pool_, id, &stream));
    return StreamHandle(stream);
  }
  // Each piece has an answer or a refusal then.
  void push(Span<lstm_edge_pool_piece> pieces) { check(lstm_edge_pool_push(pool_, pieces.data, pieces.size)); }
  lstm_edge_pool* get() const noexcept { return pool_; }

 private:
  lstm_edge_pool* pool_ = nullptr;
};

class Session {
 public:
  explicit Session(const std::string& path, const lstm_edge_options& options = LSTM_EDGE_OPTIONS_INIT) {
    check(lstm_edge_open(path.c_str(), &options, &session_));
  }
  explicit Session(Span<const std::byte> bytes, const lstm_edge_options& options = LSTM_EDGE_OPTIONS_INIT) {
    check(lstm_edge_open_bytes(bytes.data, bytes.size, &options, &session_));
  }
  Session(Session&& other) noexcept : session_(std::exchange(other.session_, nullptr)) {}
  Session& operator=(Session&& other) noexcept {
    std::swap(session_, other.session_);
    return *this;
  }
  ~Session() { lstm_edge_close(session_); }

  lstm_edge_info describe() const {
    lstm_edge_info info{};
    info.size = sizeof(info);
    check(lstm_edge_describe(session_, &info));
    return info;
  }
  lstm_edge_tensor tensor(lstm_edge_role role, size_t index) const {
    lstm_edge_tensor tensor{};
    check(lstm_edge_tensor_at(session_, role, index, &tensor));
    return tensor;
  }
  // Throws Error (LSTM_EDGE_PARITY) if the answers differ from those of the file.
  lstm_edge_check_result self_test() const {
    lstm_edge_check_result result{};
    result.size = sizeof(result);
    check(lstm_edge_check(session_, &result));
    return result;
  }
  // Calls `visit(const lstm_edge_array&)` for each output and each new state; it must not throw.
  template <typename Visit>
  void run(Span<const lstm_edge_array> inputs, const Visit& visit, const int64_t* lengths = nullptr,
           bool end = true) const {
    const auto call = [](void* context, const lstm_edge_array* array) {
      (*static_cast<const Visit*>(context))(*array);
    };
    check(lstm_edge_run(session_, inputs.data, inputs.size, lengths, end ? 1 : 0, call,
                        const_cast<void*>(static_cast<const void*>(&visit))));
  }
  // The stream, or the pool, stays valid when the session is gone.
  Stream stream(int64_t batch_size = 1) const { return Stream(session_, batch_size); }
  Pool pool(int64_t capacity = 256, int32_t threads = 1) const {
    lstm_edge_pool_options options = LSTM_EDGE_POOL_OPTIONS_INIT;
    options.capacity = capacity;
    options.threads = threads;
    return Pool(session_, options);
  }
  lstm_edge_session* get() const noexcept { return session_; }

 private:
  lstm_edge_session* session_ = nullptr;
};

}  // namespace lstm_edge

#endif
