// The stream of a model whose input steps do not give one output step each: it keeps the steps that complete no output
// yet (keeping.py).
//
// The graph is called with a number of steps that completes outputs (stepping.h). The padding after the last step
// belongs to the call that ends the sequence. Its steps are known only when the sequence ends, and a call of no steps
// is not possible. So the last call is kept: its steps run again from the state before it, now as the end of the
// sequence, and the outputs that were already given are dropped.
#include <algorithm>
#include <cstring>
#include <optional>

#include "checks.h"
#include "error.h"
#include "keeping_calls.h"
#include "moment.h"
#include "piece_shapes.h"
#include "stepping.h"
#include "steps.h"
#include "text.h"

namespace lstm_edge::device {
namespace {

// Shapes of pieces that are recognized: a chunk, a frame, and some for a length that keeps changing.
constexpr size_t kMostShapes = 8;
// Memory for steps that is taken at the start; more is taken when it is needed.
constexpr size_t kRoomBytes = size_t{1} << 22;

std::string number(int64_t value) { return std::to_string(value); }

std::vector<Runs> runs_of(const PieceReader& reader) {
  std::vector<Runs> runs;
  for (size_t i : reader.moving) {
    const TensorSpec& spec = reader.contract.inputs[i];
    const Shape shape = shape_of(spec.axes, reader.batch_size, 1);
    runs.emplace_back(dtype_of(spec.dtype), shape.data(), shape.size(), time_axis(spec.axes));
  }
  return runs;
}

// An answer without steps, with the batch axis or without it.
struct EmptyAnswer {
  EmptyAnswer(const PieceReader& reader, bool lacks_batch) : answer(reader.contract.outputs) {
    std::vector<Shape> shapes;
    for (const TensorSpec& spec : reader.contract.outputs) {
      shapes.push_back(answer_shape(spec.axes, 0, reader.batch_size, lacks_batch, false));
      arrays.emplace_back(dtype_of(spec.dtype), shapes.back());
    }
    answer.show(arrays, shapes);
  }
  std::vector<Array> arrays;
  Answer answer;
};

class KeepingStream : public Stream {
 public:
  KeepingStream(std::shared_ptr<const Session> session, int64_t batch_size);

  const lstm_edge_array* push(const lstm_edge_array* inputs, size_t count) override;
  const lstm_edge_array* flush() override;
  void reset() override;
  int64_t steps() const override { return steps_; }

 protected:
  Arrays snapshot() const override { return moment_to_arrays(moment(), reader_); }
  void restore_arrays(Arrays arrays) override;

 private:
  // The arrays of a call that ends the sequence, and the outputs that were given already.
  struct Ending {
    const std::vector<Array>* state;
    std::vector<Array> inputs;
    const std::vector<Array>* conditions;
    int64_t gave;
  };

  const PieceShape& recognize(const lstm_edge_array* inputs, size_t count);
  void give(const lstm_edge_array* inputs, size_t count);
  void keep(const PieceShape& piece, int64_t taken, bool lacks_batch);
  void note_call(const KeepingPlan& plan);
  Moment moment() const;
  std::vector<Array> arrays_of(const StepBuffer& buffer) const;
  std::optional<Ending> ending(const Moment& now) const;
  std::vector<Array> joined_inputs(const std::vector<Array>& early, const std::vector<Array>& late) const;
  const lstm_edge_array* run_ending(const Ending& plan, const Moment& now);
  const lstm_edge_array* empty(bool lacks_batch) { return (lacks_batch ? row_empty_ : empty_).answer.shown(); }

  const Streaming streaming_;
  // A last call is needed where the end pads, or where steps after it complete less than `gives` outputs.
  const bool keeps_call_;
  StateBlocks blocks_;  // the current state, that before the last call, and the next
  Conditions conditions_;
  KeepingCalls calls_;
  PieceSlots slots_;
  std::vector<std::unique_ptr<PieceShape>> shapes_;  // the last used one first
  std::vector<const void*> pieces_;                  // the arrays of a push that move
  StepBuffer kept_;
  int64_t steps_ = 0;
  bool begun_ = false;
  bool ended_ = false;
  bool lacks_batch_ = false;
  // Of the last call, if `has_call_`; its outputs were `gave_` steps, and `early_` is whether it was not the first.
  StepBuffer call_inputs_;
  std::vector<Array> call_conditions_;
  bool has_call_ = false;
  bool early_ = false;
  int64_t gave_ = 0;
  EmptyAnswer empty_, row_empty_;
  // What `flush` gave.
  Answer left_;
  std::vector<Array> left_arrays_;
};

KeepingStream::KeepingStream(std::shared_ptr<const Session> session, int64_t batch_size)
    : Stream(std::move(session), batch_size),
      streaming_(session_->card.streaming),
      keeps_call_(streaming_.end.has_value() || streaming_.every > 1),
      blocks_(contract_.states, batch_size, 3),
      conditions_(reader_),
      calls_(*session_, reader_, blocks_, conditions_),
      slots_(reader_),
      pieces_(reader_.moving.size()),
      kept_(runs_of(reader_)),
      call_inputs_(runs_of(reader_)),
      call_conditions_(clone(conditions_.live)),
      empty_(reader_, false),
      row_empty_(reader_, batch_size == 1),
      left_(contract_.outputs) {
  shapes_.reserve(kMostShapes + 1);
  size_t bytes = 1;
  for (size_t k = 0; k < reader_.moving.size(); ++k) bytes += kept_.runs(k).count * kept_.runs(k).bytes;
  kept_.reserve(std::min(std::max(streaming_.first, streaming_.every), int64_t(kRoomBytes / bytes)));
}

const lstm_edge_array* KeepingStream::push(const lstm_edge_array* inputs, size_t count) {
  if (ended_) fail(LSTM_EDGE_STREAMING, kEnded);
  const PieceShape& piece = recognize(inputs, count);
  slots_.check_finite(inputs, count, steps_);
  const bool lacks_batch = (piece.form & kLacksBatch) != 0;
  const int64_t available = kept_.steps() + piece.steps;
  const int64_t ready = ready_steps(streaming_, available, begun_);
  kept_.reserve(available - ready);
  for (size_t k = 0; k < pieces_.size(); ++k) pieces_[k] = slots_.find(reader_.moving[k], inputs, count)->data;
  if (ready == 0) {
    give(inputs, count);
    if (count > pieces_.size()) conditions_.accept();
    keep(piece, 0, lacks_batch);
    return empty(lacks_batch);
  }
  KeepingPlan& plan = calls_.plan(ready, given_steps(streaming_, ready, begun_));
  if (keeps_call_) call_inputs_.reserve(ready);
  const int64_t taken = ready - kept_.steps();  // of the piece; what is kept completes nothing without it
  kept_.copy_to(plan.inputs, ready);
  for (size_t k = 0; k < pieces_.size(); ++k) {
    copy_steps(kept_.runs(k), {pieces_[k], piece.steps, 0}, plan.inputs[k].data<void>(), ready, kept_.steps(), taken);
  }
  give(inputs, count);
  try {
    calls_.run(plan, steps_);
  } catch (...) {
    if (count > pieces_.size()) conditions_.refuse();
    throw;
  }
  // From here on nothing fails.
  if (count > pieces_.size()) conditions_.accept();
  has_call_ = keeps_call_;
  if (keeps_call_) note_call(plan);
  blocks_.advance();
  begun_ = true;
  kept_.clear();
  keep(piece, taken, lacks_batch);
  return (lacks_batch ? plan.row_answer : plan.answer).shown();
}

// The shape of a piece, which is checked in full where it is new.
const PieceShape& KeepingStream::recognize(const lstm_edge_array* inputs, size_t count) {
  for (size_t i = 0; i < shapes_.size(); ++i) {
    if (!slots_.agrees(*shapes_[i], inputs, count, conditions_.holds())) continue;
    const auto found = shapes_.begin() + std::ptrdiff_t(i);
    std::rotate(shapes_.begin(), found, found + 1);
    return *shapes_[0];
  }
  std::vector<View> given;
  for (size_t i = 0; i < count; ++i) given.push_back(view_of(inputs[i]));
  static const std::vector<Array> none;
  const std::vector<Array>& held = conditions_.holds() ? conditions_.held() : none;
  auto made = std::make_unique<PieceShape>(reader_, reader_.read(std::move(given), held, steps_));
  slots_.agrees(*made, inputs, count, true);  // finds the slots
  if (shapes_.size() == kMostShapes) shapes_.pop_back();
  shapes_.insert(shapes_.begin(), std::move(made));
  return *shapes_[0];
}

// Copies the conditions of a piece to where the graph reads them.
void KeepingStream::give(const lstm_edge_array* inputs, size_t count) {
  for (size_t k = 0; k < reader_.conditions.size(); ++k) {
    const lstm_edge_array* array = slots_.find(reader_.conditions[k], inputs, count);
    Array& live = conditions_.live[k];
    if (array != nullptr) std::memcpy(live.data<void>(), array->data, live.bytes());
  }
}

// Keeps the steps of a piece from `taken` on, and counts it.
void KeepingStream::keep(const PieceShape& piece, int64_t taken, bool lacks_batch) {
  kept_.append(pieces_, piece.steps, taken, piece.steps - taken);
  steps_ += piece.steps;
  lacks_batch_ = lacks_batch;
}

void KeepingStream::note_call(const KeepingPlan& plan) {
  call_inputs_.clear();
  call_inputs_.append(plan.memory, plan.steps, 0, plan.steps);
  for (size_t k = 0; k < call_conditions_.size(); ++k) {
    std::memcpy(call_conditions_[k].data<void>(), conditions_.live[k].data<void>(), call_conditions_[k].bytes());
  }
  early_ = begun_;
  gave_ = plan.gives;
}

const lstm_edge_array* KeepingStream::flush() {
  const Moment now = moment();
  const std::optional<Ending> plan = ended_ ? std::nullopt : ending(now);
  const lstm_edge_array* answer = plan ? run_ending(*plan, now) : empty(lacks_batch_);
  ended_ = true;
  kept_.clear();
  has_call_ = false;
  return answer;
}

const lstm_edge_array* KeepingStream::run_ending(const Ending& plan, const Moment& now) {
  const int64_t steps = plan.inputs[0].shape[time_axis(contract_.inputs[reader_.moving[0]].axes)];
  std::vector<Array> answers = calls_.run({*plan.state, plan.inputs, *plan.conditions, steps, true, now.steps});
  calls_.check_shapes(answers);
  const std::optional<int64_t> count = calls_.count_steps(answers);
  if (count && *count < plan.gave) {
    fail(LSTM_EDGE_CARD, "model card: by card.streaming the last call gave " + number(plan.gave) +
                             " output steps, but with " + number(now.kept_steps) +
                             " more input steps and the end of the sequence the graph gave " + number(*count));
  }
  std::vector<Array> state;
  for (size_t i = contract_.outputs.size(); i < answers.size(); ++i) state.push_back(std::move(answers[i]));
  answers.resize(contract_.outputs.size());
  std::vector<Shape> shapes;
  const int64_t left = count ? *count - plan.gave : 0;
  for (size_t i = 0; i < answers.size(); ++i) {
    const Axes& axes = contract_.outputs[i].axes;
    shapes.push_back(answer_shape(axes, left, reader_.batch_size, now.lacks_batch, true));
    if (plan.gave == 0 || !has_axis(axes, kTime)) continue;
    const size_t axis = time_axis(axes);
    answers[i] = steps_of(view_of("", answers[i]), axis, plan.gave, answers[i].shape[axis]);
  }
  left_.show(answers, shapes);
  left_arrays_ = std::move(answers);
  blocks_.set(blocks_.next(), state);
  blocks_.advance();
  return left_.shown();
}

// The call that ends the sequence; none where nothing is left.
std::optional<KeepingStream::Ending> KeepingStream::ending(const Moment& now) const {
  const bool left = now.kept_steps > 0 || streaming_.end.has_value();
  if (now.call && left) {
    const LastCall& call = *now.call;
    for (size_t k = 0; k < now.conditions.size() && now.kept_steps > 0; ++k) {
      if (same_values(now.conditions[k], call.conditions[k])) continue;
      fail(LSTM_EDGE_STREAMING, "the end cannot be computed: input " +
                                    repr(contract_.inputs[reader_.conditions[k]].name) + " was replaced while " +
                                    number(now.kept_steps) + " steps were kept, and the last " +
                                    number(streaming_.every) +
                                    " steps run together: push until outputs are complete, or replace it where no "
                                    "steps are kept");
    }
    return Ending{&call.before, joined_inputs(call.inputs, now.kept), &call.conditions, call.gave};
  }
  if (now.begun && !now.call && keeps_call_ && left) {
    fail(LSTM_EDGE_STREAMING,
         "the end cannot be computed: a state was assigned to this stream, and no outputs were completed since; the "
         "steps before that state are unknown: use snapshot() and restore(), or push further");
  }
  // Fewer steps than the first output needs: without padding at the end there is none.
  if (now.begun || now.kept_steps == 0 || (!streaming_.end && streaming_.first_gives == 1)) return std::nullopt;
  return Ending{&now.state, clone(now.kept), &now.conditions, 0};
}

// The steps that came later after the earlier ones, of which there may be none.
std::vector<Array> KeepingStream::joined_inputs(const std::vector<Array>& early, const std::vector<Array>& late) const {
  if (late.empty()) return clone(early);
  std::vector<Array> arrays;
  for (size_t k = 0; k < early.size(); ++k) {
    const size_t axis = time_axis(contract_.inputs[reader_.moving[k]].axes);
    arrays.push_back(joined_steps(view_of("", early[k]), view_of("", late[k]), axis));
  }
  return arrays;
}

void KeepingStream::reset() {
  blocks_.clear(blocks_.next());
  blocks_.advance();
  conditions_.forget();
  kept_.clear();
  steps_ = 0;
  begun_ = ended_ = lacks_batch_ = has_call_ = false;
}

// A copy of all that the stream knows.
Moment KeepingStream::moment() const {
  Moment now;
  now.state = blocks_.copy(blocks_.now());
  now.steps = steps_;
  now.begun = begun_;
  now.ended = ended_;
  now.lacks_batch = lacks_batch_;
  now.kept = arrays_of(kept_);
  now.kept_steps = kept_.steps();
  if (conditions_.holds()) now.conditions = clone(conditions_.held());
  if (has_call_) {
    now.call.emplace();
    now.call->begun = early_;
    now.call->before = blocks_.copy(blocks_.previous());
    now.call->inputs = arrays_of(call_inputs_);
    now.call->conditions = clone(call_conditions_);
    now.call->gave = gave_;
  }
  return now;
}

// The steps of a buffer as arrays; none if it has none.
std::vector<Array> KeepingStream::arrays_of(const StepBuffer& buffer) const {
  std::vector<Array> arrays;
  if (buffer.steps() == 0) return arrays;
  for (size_t i : reader_.moving) {
    const TensorSpec& spec = contract_.inputs[i];
    arrays.emplace_back(dtype_of(spec.dtype), shape_of(spec.axes, reader_.batch_size, buffer.steps()));
  }
  buffer.copy_to(arrays, buffer.steps());
  return arrays;
}

void KeepingStream::restore_arrays(Arrays arrays) {
  const Moment then = moment_from_arrays(std::move(arrays), reader_, streaming_);
  const auto memory_of = [](const std::vector<Array>& held) {
    std::vector<const void*> memory;
    for (const Array& array : held) memory.push_back(array.data<void>());
    return memory;
  };
  const size_t axis = time_axis(contract_.inputs[reader_.moving[0]].axes);
  const std::vector<const void*> kept = memory_of(then.kept);
  const std::vector<const void*> called = then.call ? memory_of(then.call->inputs) : kept;
  const int64_t called_steps = then.call ? then.call->inputs[0].shape[axis] : 0;
  kept_.reserve(then.kept_steps);
  call_inputs_.reserve(called_steps);
  // From here on nothing fails.
  blocks_.set(blocks_.next(), then.state);
  blocks_.advance();
  conditions_.set(then.conditions);
  kept_.clear();
  kept_.append(kept, then.kept_steps, 0, then.kept_steps);
  steps_ = then.steps;
  begun_ = then.begun;
  ended_ = then.ended;
  lacks_batch_ = then.lacks_batch;
  has_call_ = then.call.has_value();
  if (!has_call_) return;
  early_ = then.call->begun;
  gave_ = then.call->gave;
  blocks_.set(blocks_.previous(), then.call->before);
  call_inputs_.clear();
  call_inputs_.append(called, called_steps, 0, called_steps);
  for (size_t k = 0; k < call_conditions_.size(); ++k) {
    std::memcpy(call_conditions_[k].data<void>(), then.call->conditions[k].data<void>(), call_conditions_[k].bytes());
  }
}

}  // namespace

std::unique_ptr<Stream> open_keeping_stream(std::shared_ptr<const Session> session, int64_t batch_size) {
  return std::make_unique<KeepingStream>(std::move(session), batch_size);
}

}  // namespace lstm_edge::device
