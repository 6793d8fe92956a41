// The stream of a model whose input steps do not give one output step each: it keeps the steps that complete no output
// yet (keeping.py).
//
// The graph is called with a number of steps that completes outputs (stepping.h). The padding after the last step
// belongs to the call that ends the sequence. Its steps are known only when the sequence ends, and a call of no steps
// is not possible. So the last call is kept: its steps run again from the state before it, now as the end of the
// sequence, and the outputs that were already given are dropped.
#include <algorithm>
#include <optional>

#include "checks.h"
#include "error.h"
#include "moment.h"
#include "stepping.h"
#include "steps.h"
#include "stream.h"
#include "text.h"

namespace lstm_edge::device {
namespace {

std::string number(int64_t value) { return std::to_string(value); }

class KeepingStream : public Stream {
 public:
  KeepingStream(std::shared_ptr<const Session> session, int64_t batch_size)
      : Stream(std::move(session), batch_size), streaming_(session_->card.streaming), answer_(contract_.outputs) {
    // A last call is needed where the end pads, or where steps after it complete less than `gives` outputs.
    keeps_call_ = streaming_.end.has_value() || streaming_.every > 1;
    for (size_t i : reader_.moving) time_axes_.push_back(time_axis(contract_.inputs[i].axes));
    for (const TensorSpec& spec : contract_.outputs) names_.push_back(spec.name);
    for (const StateSpec& spec : contract_.states) names_.push_back(spec.output);
    now_.state = initial_state();
  }

  const lstm_edge_array* push(const lstm_edge_array* inputs, size_t count) override;
  const lstm_edge_array* flush() override;
  void reset() override {
    Moment start;
    start.state = initial_state();
    now_ = std::move(start);
  }
  int64_t steps() const override { return now_.steps; }

 protected:
  Arrays snapshot() const override { return moment_to_arrays(now_, reader_); }
  void restore_arrays(Arrays arrays) override { now_ = moment_from_arrays(std::move(arrays), reader_, streaming_); }

 private:
  // The arrays of a call that ends the sequence, and the outputs that were given already.
  struct Ending {
    const std::vector<Array>* state;
    std::vector<Array> inputs;
    const std::vector<Array>* conditions;
    int64_t gave;
  };

  std::vector<Array> initial_state() const;
  std::vector<View> read(const lstm_edge_array* inputs, size_t count, Form& form, int64_t& steps) const;
  std::vector<Array> join(const std::vector<Array>& early, const std::vector<View>& late) const;
  std::vector<Array> cut(const std::vector<Array>& arrays, int64_t start, int64_t stop) const;
  std::vector<View> views_of(const std::vector<Array>& arrays) const;
  std::vector<Array> call(const std::vector<Array>& state, const std::vector<Array>& inputs,
                          const std::vector<Array>& conditions, int64_t steps, bool end) const;
  std::vector<Array> take_states(std::vector<Array>& answers) const;
  std::optional<Ending> ending() const;
  void check_shapes(const std::vector<Array>& answers) const;
  bool shapes_agree(const std::vector<Array>& answers, int64_t gives) const;
  std::optional<int64_t> count_steps(const std::vector<Array>& answers) const;
  const lstm_edge_array* deliver_empty(bool lacks_batch);
  const lstm_edge_array* deliver(std::vector<Array> outputs, int64_t steps, bool lacks_batch);

  const Streaming streaming_;
  bool keeps_call_ = false;
  std::vector<size_t> time_axes_;  // of the inputs that move
  std::vector<std::string> names_;
  Moment now_;
  Answer answer_;
  std::vector<Array> delivered_;
};

std::vector<Array> KeepingStream::initial_state() const {
  std::vector<Array> state;
  for (const StateSpec& spec : contract_.states) {
    state.emplace_back(dtype_of(spec.dtype), state_shape(spec, reader_.batch_size));
  }
  return state;
}

const lstm_edge_array* KeepingStream::push(const lstm_edge_array* inputs, size_t count) {
  if (now_.ended) fail(LSTM_EDGE_STREAMING, kEnded);
  Form form = kChunk;
  int64_t steps = 1;
  const std::vector<View> views = read(inputs, count, form, steps);
  std::vector<Array> conditions, joined;
  std::vector<Shape> shapes;
  for (size_t i : reader_.conditions) conditions.push_back(copy_of(views[i]));
  std::vector<View> moving;
  for (size_t i : reader_.moving) shapes.push_back(shape_of(contract_.inputs[i].axes, reader_.batch_size, steps));
  for (size_t k = 0; k < shapes.size(); ++k) {
    View view = views[reader_.moving[k]];
    view.shape = shapes[k].data();
    view.rank = shapes[k].size();
    moving.push_back(view);
  }
  joined = join(now_.kept, moving);
  const int64_t available = now_.kept_steps + steps;
  const int64_t ready = ready_steps(streaming_, available, now_.begun);
  const bool lacks_batch = (form & kLacksBatch) != 0;
  if (ready == 0) {
    const lstm_edge_array* answer = deliver_empty(lacks_batch);
    now_.steps += steps;
    now_.lacks_batch = lacks_batch;
    now_.kept = std::move(joined);
    now_.kept_steps = available;
    now_.conditions = std::move(conditions);
    return answer;
  }
  const int64_t gives = given_steps(streaming_, ready, now_.begun);
  std::vector<Array> kept;
  if (available > ready) {
    kept = cut(joined, ready, available);
    joined = cut(joined, 0, ready);
  }
  std::vector<Array> answers = call(now_.state, joined, conditions, ready, false);
  if (!shapes_agree(answers, gives)) {
    check_shapes(answers);
    const std::optional<int64_t> counted = count_steps(answers);
    fail(LSTM_EDGE_CARD, "model card: by card.streaming " + number(ready) + " input steps give " + number(gives) +
                             " output steps, the graph gave " + (counted ? number(*counted) : "None"));
  }
  std::vector<Array> state = take_states(answers);
  std::optional<LastCall> last;
  if (keeps_call_) {
    last.emplace();
    last->conditions = clone(conditions);
  }
  const lstm_edge_array* answer = deliver(std::move(answers), gives, lacks_batch);
  // From here on nothing fails.
  if (last) {
    last->begun = now_.begun;
    last->before = std::move(now_.state);
    last->inputs = std::move(joined);
    last->gave = gives;
  }
  now_.state = std::move(state);
  now_.steps += steps;
  now_.begun = true;
  now_.lacks_batch = lacks_batch;
  now_.kept = std::move(kept);
  now_.kept_steps = available - ready;
  now_.call = std::move(last);
  now_.conditions = std::move(conditions);
  return answer;
}

const lstm_edge_array* KeepingStream::flush() {
  std::optional<Ending> plan = now_.ended ? std::nullopt : ending();
  const lstm_edge_array* answer = nullptr;
  if (!plan) {
    answer = deliver_empty(now_.lacks_batch);
  } else {
    const int64_t steps = plan->inputs[0].shape[time_axes_[0]];
    std::vector<Array> answers = call(*plan->state, plan->inputs, *plan->conditions, steps, true);
    check_shapes(answers);
    const std::optional<int64_t> count = count_steps(answers);
    if (count && *count < plan->gave) {
      fail(LSTM_EDGE_CARD, "model card: by card.streaming the last call gave " + number(plan->gave) +
                               " output steps, but with " + number(now_.kept_steps) +
                               " more input steps and the end of the sequence the graph gave " + number(*count));
    }
    std::vector<Array> state = take_states(answers);
    for (size_t i = 0; i < answers.size() && plan->gave > 0; ++i) {
      const Axes& axes = contract_.outputs[i].axes;
      if (!has_axis(axes, kTime)) continue;
      const size_t axis = time_axis(axes);
      answers[i] = steps_of(view_of("", answers[i]), axis, plan->gave, answers[i].shape[axis]);
    }
    answer = deliver(std::move(answers), count ? *count - plan->gave : 0, now_.lacks_batch);
    now_.state = std::move(state);
  }
  now_.ended = true;
  now_.kept.clear();
  now_.kept_steps = 0;
  now_.call.reset();
  return answer;
}

// The call that ends the sequence; none where nothing is left.
std::optional<KeepingStream::Ending> KeepingStream::ending() const {
  const bool left = now_.kept_steps > 0 || streaming_.end.has_value();
  if (now_.call && left) {
    const LastCall& call = *now_.call;
    for (size_t k = 0; k < now_.conditions.size() && now_.kept_steps > 0; ++k) {
      if (same_values(now_.conditions[k], call.conditions[k])) continue;
      fail(LSTM_EDGE_STREAMING, "the end cannot be computed: input " +
                                    repr(contract_.inputs[reader_.conditions[k]].name) + " was replaced while " +
                                    number(now_.kept_steps) + " steps were kept, and the last " +
                                    number(streaming_.every) +
                                    " steps run together: push until outputs are complete, or replace it where no "
                                    "steps are kept");
    }
    return Ending{&call.before, join(call.inputs, views_of(now_.kept)), &call.conditions, call.gave};
  }
  if (now_.begun && !now_.call && keeps_call_ && left) {
    fail(LSTM_EDGE_STREAMING,
         "the end cannot be computed: a state was assigned to this stream, and no outputs were completed since; the "
         "steps before that state are unknown: use snapshot() and restore(), or push further");
  }
  // Fewer steps than the first output needs: without padding at the end there is none.
  if (now_.begun || now_.kept_steps == 0 || (!streaming_.end && streaming_.first_gives == 1)) return std::nullopt;
  return Ending{&now_.state, clone(now_.kept), &now_.conditions, 0};
}

std::vector<View> KeepingStream::read(const lstm_edge_array* inputs, size_t count, Form& form, int64_t& steps) const {
  std::vector<View> given;
  for (size_t i = 0; i < count; ++i) given.push_back(view_of(inputs[i]));
  std::vector<View> views = reader_.read(std::move(given), now_.conditions, now_.steps);
  form = reader_.find_form(views, steps);
  for (size_t i : reader_.moving) check_step_finite(contract_.inputs[i].name, views[i], now_.steps);
  return views;
}

// New arrays: the later steps after the earlier ones, either of which may be none.
std::vector<Array> KeepingStream::join(const std::vector<Array>& early, const std::vector<View>& late) const {
  if (late.empty()) return clone(early);
  std::vector<Array> arrays;
  for (size_t k = 0; k < time_axes_.size(); ++k) {
    arrays.push_back(early.empty() ? copy_of(late[k]) : joined_steps(view_of("", early[k]), late[k], time_axes_[k]));
  }
  return arrays;
}

std::vector<Array> KeepingStream::cut(const std::vector<Array>& arrays, int64_t start, int64_t stop) const {
  std::vector<Array> parts;
  for (size_t k = 0; k < arrays.size(); ++k) {
    parts.push_back(steps_of(view_of("", arrays[k]), time_axes_[k], start, stop));
  }
  return parts;
}

std::vector<View> KeepingStream::views_of(const std::vector<Array>& arrays) const {
  std::vector<View> views;
  for (const Array& array : arrays) views.push_back(view_of("", array));
  return views;
}

std::vector<Array> KeepingStream::call(const std::vector<Array>& state, const std::vector<Array>& inputs,
                                       const std::vector<Array>& conditions, int64_t steps, bool end) const {
  std::vector<Lent> feeds;
  const auto feed = [&](const std::string& name, const Array& array) {
    feeds.push_back(lent_of(name, view_of(name, array)));
  };
  for (size_t i = 0; i < state.size(); ++i) feed(contract_.states[i].input, state[i]);
  for (size_t k = 0; k < inputs.size(); ++k) feed(contract_.inputs[reader_.moving[k]].name, inputs[k]);
  for (size_t k = 0; k < conditions.size(); ++k) feed(contract_.inputs[reader_.conditions[k]].name, conditions[k]);
  Array lengths, ends(LSTM_EDGE_INT64, {1});
  if (contract_.lengths) {
    lengths = Array(LSTM_EDGE_INT64, {reader_.batch_size});
    std::fill(lengths.data<int64_t>(), lengths.data<int64_t>() + reader_.batch_size, steps);
    feed(*contract_.lengths, lengths);
  }
  if (streaming_.end) {
    *ends.data<int64_t>() = end ? 1 : 0;
    feed(*streaming_.end, ends);
  }
  std::vector<Array> answers;
  const std::string at = "step " + number(now_.steps) + ": ";
  try {
    answers = session_->graph->run(feeds, names_);
  } catch (const Error& error) {
    fail(error.status, at + "onnxruntime refused this input, the state is unchanged: " + error.message);
  }
  for (size_t i = contract_.outputs.size(); i < answers.size(); ++i) {
    if (!all_finite(view_of("", answers[i]))) {
      fail(LSTM_EDGE_INPUT, at + "the new state is not finite: it was discarded, and the old state was kept");
    }
  }
  return answers;
}

// The states of the answers of a call, of which the outputs remain.
std::vector<Array> KeepingStream::take_states(std::vector<Array>& answers) const {
  std::vector<Array> states;
  for (size_t i = contract_.outputs.size(); i < answers.size(); ++i) states.push_back(std::move(answers[i]));
  answers.resize(contract_.outputs.size());
  return states;
}

bool KeepingStream::shapes_agree(const std::vector<Array>& answers, int64_t gives) const {
  const size_t outputs = contract_.outputs.size();
  for (size_t i = 0; i < answers.size(); ++i) {
    const Shape expected = i < outputs ? shape_of(contract_.outputs[i].axes, reader_.batch_size, gives)
                                       : state_shape(contract_.states[i - outputs], reader_.batch_size);
    if (answers[i].shape != expected) return false;
  }
  return true;
}

// Refuses shapes that the card does not say: a graph need not declare those of its outputs.
void KeepingStream::check_shapes(const std::vector<Array>& answers) const {
  const size_t outputs = contract_.outputs.size();
  const auto check = [&](const std::string& name, const Shape& got, const Axes& axes) {
    bool right = got.size() == axes.size();
    for (size_t k = 0; right && k < axes.size(); ++k) {
      right = axes[k] == Axis(got[k]) || axes[k] == Axis(std::string(kTime));
    }
    if (right) return;
    fail(LSTM_EDGE_CARD, "model card: the graph gave " + repr(name) + " with shape " + shape_text(got) + ", expected " +
                             axes_text(axes));
  };
  for (size_t i = 0; i < contract_.states.size(); ++i) {
    const Shape shape = state_shape(contract_.states[i], reader_.batch_size);
    check(contract_.states[i].output, answers[outputs + i].shape, Axes(shape.begin(), shape.end()));
  }
  for (size_t i = 0; i < outputs; ++i) {
    Axes axes = contract_.outputs[i].axes;
    for (Axis& axis : axes) {
      if (axis == Axis(std::string(kBatch))) axis = reader_.batch_size;
    }
    check(contract_.outputs[i].name, answers[i].shape, axes);
  }
}

// The output steps of a call, or none if no output has a time axis.
std::optional<int64_t> KeepingStream::count_steps(const std::vector<Array>& answers) const {
  std::optional<int64_t> count;
  std::vector<std::string> found;
  bool agree = true;
  for (size_t i = 0; i < contract_.outputs.size(); ++i) {
    const TensorSpec& spec = contract_.outputs[i];
    if (!has_axis(spec.axes, kTime)) continue;
    const int64_t steps = answers[i].shape[time_axis(spec.axes)];
    agree = agree && (!count || *count == steps);
    if (!count) count = steps;
    found.push_back(number(steps) + " in " + repr(spec.name));
  }
  if (!agree) {
    fail(LSTM_EDGE_CARD,
         "model card: by card.streaming all outputs have the same steps, the graph gave " + joined(found));
  }
  return count;
}

const lstm_edge_array* KeepingStream::deliver_empty(bool lacks_batch) {
  std::vector<Array> arrays;
  std::vector<Shape> shapes;
  for (const TensorSpec& spec : contract_.outputs) {
    shapes.push_back(answer_shape(spec.axes, 0, reader_.batch_size, lacks_batch, false));
    arrays.emplace_back(dtype_of(spec.dtype), shapes.back());
  }
  answer_.show(arrays, shapes);
  delivered_ = std::move(arrays);
  return answer_.shown();
}

const lstm_edge_array* KeepingStream::deliver(std::vector<Array> outputs, int64_t steps, bool lacks_batch) {
  std::vector<Shape> shapes;
  for (const TensorSpec& spec : contract_.outputs) {
    shapes.push_back(answer_shape(spec.axes, steps, reader_.batch_size, lacks_batch, true));
  }
  answer_.show(outputs, shapes);
  delivered_ = std::move(outputs);
  return answer_.shown();
}

}  // namespace

std::unique_ptr<Stream> open_keeping_stream(std::shared_ptr<const Session> session, int64_t batch_size) {
  return std::make_unique<KeepingStream>(std::move(session), batch_size);
}

}  // namespace lstm_edge::device
