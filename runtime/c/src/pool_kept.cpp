// The streams of a pool whose model needs several steps for an output step, or later ones, and so on: pool_kept.py.
//
// Each stream is a PoolKeeper, which keeps the steps that complete no output. A push calls the graph once for all
// streams whose pieces complete as many steps.
#include <algorithm>
#include <optional>

#include "pool_keeper.h"
#include "pool_streams.h"
#include "row_slices.h"
#include "text.h"

namespace lstm_edge::device {
namespace {

// What one stream pushes.
struct Member {
  const Pushed* pushed;
  PoolKeeper* stream;
  PlannedPush push;
};

// A call of the graph: the tensors of its streams, joined, and what came of it.
struct Call {
  Member* members = nullptr;
  size_t count = 0;
  std::vector<Array> joined;
  std::vector<Lent> feeds;
  Array lengths, end;
  std::vector<Array> answers;
  std::optional<Error> error;
  bool no_memory = false;
};

class KeptStreams : public PoolStreams {
 public:
  KeptStreams(std::shared_ptr<const Session> session, Crew& crew);

  void attach(size_t row, Arrays* snapshot) override;
  void detach(size_t row) override { streams_[row].reset(); }
  int64_t steps(size_t row) const override { return streams_[row]->steps(); }
  void reset(size_t row) override { streams_[row]->reset(); }
  const lstm_edge_array* flush(size_t row) override;
  Arrays snapshot(size_t row) const override { return streams_[row]->snapshot(); }
  void restore(size_t row, Arrays arrays) override { streams_[row]->restore(std::move(arrays)); }
  void push(const Pushed* pieces, size_t count) override;

 private:
  using Group = std::vector<Member>;

  void sort(std::vector<Group>& groups, Member member) const;
  bool agree(const Member& one, const Member& other) const;
  std::vector<const Array*> arrays_of(const Member& member) const;
  void run(Member* members, size_t count);
  void join(Call& call) const;
  void execute(Call& call) const;
  void conclude(Call& call);
  void take(Call& call) const;
  Array cut(const std::string& name, const Axes& axes, const Array& array, size_t row, size_t rows) const;

  const std::shared_ptr<const Session> session_;
  const Contract& contract_;
  const PieceReader reader_;
  Crew& crew_;
  // What the streams check answers with; nothing runs through it.
  StateBlocks blocks_;
  Conditions conditions_;
  const KeepingCalls calls_;
  std::unique_ptr<Stream> ending_;                    // takes the place of a stream whose sequence ends
  std::vector<std::unique_ptr<PoolKeeper>> streams_;  // by row
  std::vector<std::string> names_;                    // of the outputs, then of the new states
  // What a call takes beside counts: states, inputs that move, conditions; and their axes.
  std::vector<std::string> fed_;
  std::vector<Axes> fed_axes_, answer_axes_;
};

KeptStreams::KeptStreams(std::shared_ptr<const Session> session, Crew& crew)
    : session_(std::move(session)),
      contract_(session_->contract),
      reader_(contract_, 1),
      crew_(crew),
      blocks_(contract_.states, 1, 2),
      conditions_(reader_),
      calls_(*session_, reader_, blocks_, conditions_) {
  for (const TensorSpec& spec : contract_.outputs) {
    answer_axes_.push_back(spec.axes);
    names_.push_back(spec.name);
  }
  for (const StateSpec& spec : contract_.states) {
    fed_.push_back(spec.input);
    fed_axes_.push_back(spec.axes);
    answer_axes_.push_back(spec.axes);
    names_.push_back(spec.output);
  }
  for (const std::vector<size_t>* inputs : {&reader_.moving, &reader_.conditions}) {
    for (size_t i : *inputs) {
      fed_.push_back(contract_.inputs[i].name);
      fed_axes_.push_back(contract_.inputs[i].axes);
    }
  }
}

void KeptStreams::attach(size_t row, Arrays* snapshot) {
  auto stream = std::make_unique<PoolKeeper>(*session_, reader_, calls_);
  if (snapshot != nullptr) stream->restore(std::move(*snapshot));
  if (streams_.size() <= row) streams_.resize(row + 1);
  streams_[row] = std::move(stream);
}

// Ends the sequence as a stream alone does, which goes on from the snapshot of this one.
const lstm_edge_array* KeptStreams::flush(size_t row) {
  if (ending_ == nullptr) ending_ = open_keeping_stream(session_, 1);
  ending_->restore(write_npz(streams_[row]->snapshot()));
  const lstm_edge_array* answer = ending_->flush();
  streams_[row]->restore(read_snapshot(ending_->save()));
  return answer;
}

void KeptStreams::push(const Pushed* pieces, size_t count) {
  std::vector<Group> groups;
  for (size_t i = 0; i < count; ++i) {
    const Pushed& pushed = pieces[i];
    PoolKeeper& stream = *streams_[pushed.row];
    pushed.guard([&] {
      if (pushed.piece->inputs == nullptr) fail(LSTM_EDGE_MISUSE, "inputs is NULL");
      PlannedPush push = stream.plan(pushed.piece->inputs, pushed.piece->count);
      if (push.count == 0) pushed.answer(stream.keep(std::move(push)));
      else sort(groups, {&pushed, &stream, std::move(push)});
    });
  }
  for (Group& group : groups) run(group.data(), group.size());
}

// Puts a push into the group that it shares a call with.
void KeptStreams::sort(std::vector<Group>& groups, Member member) const {
  const auto fits = [&](const Group& group) { return agree(group[0], member); };
  const auto found = std::find_if(groups.begin(), groups.end(), fits);
  Group& group = found != groups.end() ? *found : groups.emplace_back();
  group.push_back(std::move(member));
}

// Whether two streams can share a call: as many steps, and the same in what has no batch axis.
bool KeptStreams::agree(const Member& one, const Member& other) const {
  if (one.push.count != other.push.count || one.push.gives != other.push.gives) return false;
  const std::vector<const Array*> mine = arrays_of(one), others = arrays_of(other);
  for (size_t i = 0; i < mine.size(); ++i) {
    if (RowSlices(fed_axes_[i], mine[i]->shape, mine[i]->dtype).has_batch) continue;
    const bool same = mine[i]->bytes() == others[i]->bytes() &&
                      std::memcmp(mine[i]->data<void>(), others[i]->data<void>(), mine[i]->bytes()) == 0;
    if (!same) return false;
  }
  return true;
}

std::vector<const Array*> KeptStreams::arrays_of(const Member& member) const {
  std::vector<const Array*> arrays;
  for (const std::vector<Array>* group : {&member.stream->state(), &member.push.inputs, &member.push.conditions}) {
    for (const Array& array : *group) arrays.push_back(&array);
  }
  return arrays;
}

void KeptStreams::run(Member* members, size_t count) {
  const size_t parts = share_of_threads(crew_, count, members[0].push.count, session_->size_bytes);
  std::vector<Call> calls(parts);
  for (size_t part = 0; part < parts; ++part) {
    const size_t start = count * part / parts, stop = count * (part + 1) / parts;
    calls[part].members = members + start;
    calls[part].count = stop - start;
  }
  struct Context {
    KeptStreams& self;
    std::vector<Call>& calls;
  } context{*this, calls};
  const auto work = [](void* given, size_t index) {
    const auto& [self, shared] = *static_cast<Context*>(given);
    self.execute(shared[index]);
  };
  crew_.run(parts, work, &context);
  for (Call& call : calls) conclude(call);
}

// Several threads do this at once, each for other streams.
void KeptStreams::execute(Call& call) const {
  try {
    join(call);
    call.answers = session_->graph->run(call.feeds, names_);
  } catch (const Error& error) {
    call.error = error;
  } catch (const std::bad_alloc&) {
    call.no_memory = true;
  }
}

void KeptStreams::join(Call& call) const {
  const std::vector<const Array*> first = arrays_of(call.members[0]);
  call.joined.reserve(first.size());
  for (size_t k = 0; k < first.size(); ++k) {
    Shape shape = first[k]->shape;
    if (const std::optional<BatchAxis> batch = batch_axis(fed_axes_[k])) shape[batch->axis] *= int64_t(call.count);
    call.joined.emplace_back(first[k]->dtype, shape);
  }
  for (size_t i = 0; i < call.count; ++i) {
    const std::vector<const Array*> arrays = arrays_of(call.members[i]);
    for (size_t k = 0; k < arrays.size(); ++k) {
      const RowSlices slices(fed_axes_[k], arrays[k]->shape, arrays[k]->dtype);
      if (!slices.has_batch && i > 0) continue;
      slices.copy(call.joined[k].data<char>() + i * slices.bytes, call.count, arrays[k]->data<char>(), 1);
    }
  }
  for (size_t k = 0; k < call.joined.size(); ++k) call.feeds.push_back(lent_of(fed_[k], call.joined[k]));
  if (contract_.lengths) {
    call.lengths = Array(LSTM_EDGE_INT64, {int64_t(call.count)});
    std::fill_n(call.lengths.data<int64_t>(), call.count, call.members[0].push.count);
    call.feeds.push_back(lent_of(*contract_.lengths, call.lengths));
  }
  if (contract_.end) {
    call.end = Array(LSTM_EDGE_INT64, {1});  // 0: the sequence goes on
    call.feeds.push_back(lent_of(*contract_.end, call.end));
  }
}

// Gives each stream what is its own of a call; where onnxruntime refused it, calls for each stream alone.
void KeptStreams::conclude(Call& call) {
  if (!call.error && !call.no_memory) {
    take(call);
  } else if (call.count > 1) {
    for (size_t i = 0; i < call.count; ++i) run(call.members + i, 1);
  } else if (call.no_memory) {
    call.members->pushed->refuse_for_memory();
  } else {
    call.members->pushed->guard([&] { call.members->stream->refuse(*call.error); });
  }
}

void KeptStreams::take(Call& call) const {
  for (size_t i = 0; i < call.count; ++i) {
    Member& member = call.members[i];
    member.pushed->guard([&] {
      std::vector<Array> own;
      for (size_t k = 0; k < call.answers.size(); ++k) {
        own.push_back(cut(names_[k], answer_axes_[k], call.answers[k], i, call.count));
      }
      member.pushed->answer(member.stream->take(std::move(member.push), std::move(own)));
    });
  }
}

// A copy of what one row of a call has of a tensor.
Array KeptStreams::cut(const std::string& name, const Axes& axes, const Array& array, size_t row, size_t rows) const {
  const std::optional<BatchAxis> batch = batch_axis(axes);
  if (!batch) return clone(array);
  const int64_t expected = int64_t(rows) * batch->factor;
  if (array.shape.size() <= batch->axis || array.shape[batch->axis] != expected) {
    fail(LSTM_EDGE_CARD, "model card: the graph gave " + repr(name) + " with shape " + shape_text(array.shape) +
                             " for " + std::to_string(rows) + " rows; expected " + std::to_string(expected) +
                             " on axis " + std::to_string(batch->axis));
  }
  Shape shape = array.shape;
  shape[batch->axis] = batch->factor;
  Array own(array.dtype, shape);
  const RowSlices slices(axes, shape, array.dtype);
  slices.copy(own.data<char>(), 1, array.data<char>() + row * slices.bytes, rows);
  return own;
}

}  // namespace

std::unique_ptr<PoolStreams> make_kept_streams(std::shared_ptr<const Session> session, Crew& crew) {
  return std::make_unique<KeptStreams>(std::move(session), crew);
}

}  // namespace lstm_edge::device
