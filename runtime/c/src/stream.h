// A model that runs on one piece of a sequence after the other and keeps its state between them: stream.py.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "pieces.h"
#include "session.h"

namespace lstm_edge::device {

// An output of a shape as a caller sees it, without its memory; throws Error (LSTM_EDGE_INPUT) if it has too many axes.
lstm_edge_array shown_output(const TensorSpec& spec, const Shape& shape);

// The arrays of an answer in the order of the model's outputs, and what shows them to a caller.
class Answer {
 public:
  // `outputs` must outlive the answer.
  explicit Answer(const std::vector<TensorSpec>& outputs) : outputs_(outputs) {}

  // Shows arrays, which must stay where they are, with other shapes of the same number of elements.
  const lstm_edge_array* show(std::vector<Array>& arrays, const std::vector<Shape>& shapes);
  const lstm_edge_array* shown() const { return shown_.data(); }

 private:
  const std::vector<TensorSpec>& outputs_;
  std::vector<lstm_edge_array> shown_;
};

// One thread at a time may use a stream. What a function throws leaves the stream as it was.
class Stream {
 public:
  virtual ~Stream() = default;

  // As lstm_edge_stream_push and lstm_edge_stream_flush; the answers are valid until the next call.
  virtual const lstm_edge_array* push(const lstm_edge_array* inputs, size_t count) = 0;
  virtual const lstm_edge_array* flush() = 0;
  virtual void reset() = 0;
  virtual int64_t steps() const = 0;
  // Everything that the stream knows, as the bytes of an .npz archive.
  std::string save() const;
  void restore(std::string_view bytes);

 protected:
  explicit Stream(std::shared_ptr<const Session> session, int64_t batch_size);

  virtual Arrays snapshot() const = 0;
  virtual void restore_arrays(Arrays arrays) = 0;

  const std::shared_ptr<const Session> session_;
  const Contract& contract_;
  const PieceReader reader_;
};

extern const char kEnded[];

// Throws Error (LSTM_EDGE_STREAMING) with the reason if a model cannot be streamed.
void check_streamable(const Session& session);
// The arrays of a snapshot's bytes; throws Error (LSTM_EDGE_INPUT) if it is no archive.
Arrays read_snapshot(std::string_view bytes);

// Throws Error (LSTM_EDGE_STREAMING) for a model that cannot be streamed, (LSTM_EDGE_INPUT) for a wrong batch size.
std::unique_ptr<Stream> open_stream(std::shared_ptr<const Session> session, int64_t batch_size);

// Of a model whose every input step gives one output step at once, and of any other.
std::unique_ptr<Stream> open_direct_stream(std::shared_ptr<const Session> session, int64_t batch_size);
std::unique_ptr<Stream> open_keeping_stream(std::shared_ptr<const Session> session, int64_t batch_size);

}  // namespace lstm_edge::device
