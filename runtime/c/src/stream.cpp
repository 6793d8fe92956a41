#include "stream.h"

#include <algorithm>

#include "checks.h"
#include "error.h"
#include "golden.h"
#include "stepping.h"
#include "text.h"

namespace lstm_edge::device {
namespace {

constexpr size_t kMostSnapshotBytes = size_t{1} << 30;

}  // namespace

const char kEnded[] = "the stream has ended with flush(): call reset() to start a new sequence";

void check_streamable(const Session& session) {
  if (!session.has_card) {
    fail(LSTM_EDGE_STREAMING,
         "the model cannot be streamed: it has no model card, so it is unknown whether chunks give the outputs of the "
         "whole sequence; export it with lstm-edge");
  }
  const Streaming& streaming = session.card.streaming;
  if (streaming.verdict == "none") {
    fail(LSTM_EDGE_STREAMING, "the model cannot be streamed: " +
                                  (streaming.reason.empty() ? std::string("its card says so") : streaming.reason));
  }
  for (const auto* specs : {&session.contract.inputs, &session.contract.outputs}) {
    for (const TensorSpec& spec : *specs) {
      for (const Axis& axis : spec.axes) {
        const std::string* name = std::get_if<std::string>(&axis);
        if (name == nullptr || *name == kBatch || *name == kTime) continue;
        fail(LSTM_EDGE_STREAMING, "the model cannot be streamed: " + repr(spec.name) + " has the axis " + repr(*name) +
                                      ", which is neither 'batch' nor 'time'");
      }
    }
  }
}

lstm_edge_array shown_output(const TensorSpec& spec, const Shape& shape) {
  if (shape.size() > LSTM_EDGE_MOST_AXES) {
    fail(LSTM_EDGE_INPUT, "output " + repr(spec.name) + " has " + std::to_string(shape.size()) +
                              " axes, the C interface shows at most " + std::to_string(LSTM_EDGE_MOST_AXES));
  }
  lstm_edge_array shown{};
  shown.name = spec.name.c_str();
  shown.dtype = dtype_of(spec.dtype);
  shown.rank = int32_t(shape.size());
  std::copy(shape.begin(), shape.end(), shown.shape);
  return shown;
}

const lstm_edge_array* Answer::show(std::vector<Array>& arrays, const std::vector<Shape>& shapes) {
  shown_.resize(arrays.size());
  for (size_t i = 0; i < arrays.size(); ++i) {
    shown_[i] = shown_output(outputs_[i], shapes[i]);
    shown_[i].dtype = arrays[i].dtype;
    shown_[i].data = arrays[i].data<void>();
  }
  return shown_.data();
}

Stream::Stream(std::shared_ptr<const Session> session, int64_t batch_size)
    : session_(std::move(session)), contract_(session_->contract), reader_(contract_, batch_size) {}

std::string Stream::save() const { return write_npz(snapshot()); }

void Stream::restore(std::string_view bytes) { restore_arrays(read_snapshot(bytes)); }

Arrays read_snapshot(std::string_view bytes) {
  try {
    return read_npz(bytes, kMostSnapshotBytes);
  } catch (const Error& error) {
    fail(LSTM_EDGE_INPUT, "not a snapshot of a stream: " + error.message);
  }
}

std::unique_ptr<Stream> open_stream(std::shared_ptr<const Session> session, int64_t batch_size) {
  check_streamable(*session);
  if (batch_size < 1) {
    fail(LSTM_EDGE_INPUT, "batch_size must be a positive integer, got " + std::to_string(batch_size));
  }
  const auto& inputs = session->contract.inputs;
  const auto has_rows = [](const TensorSpec& spec) { return has_axis(spec.axes, kBatch); };
  if (batch_size != 1 && std::none_of(inputs.begin(), inputs.end(), has_rows)) {
    fail(LSTM_EDGE_INPUT,
         "batch_size is " + std::to_string(batch_size) + ", and no input of the model has a dynamic batch axis");
  }
  if (inputs.empty()) fail(LSTM_EDGE_STREAMING, "the model cannot be streamed: it has no input");
  const bool direct = is_one_to_one(session->card.streaming);
  return (direct ? open_direct_stream : open_keeping_stream)(std::move(session), batch_size);
}

}  // namespace lstm_edge::device
