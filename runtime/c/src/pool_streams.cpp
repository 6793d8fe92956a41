// The streams of a pool whose model gives one output step for each input step: rows of one store, run together.
#include "pool_streams.h"

#include <algorithm>

#include "checks.h"
#include "moment.h"
#include "pool_calls.h"

namespace lstm_edge::device {

namespace {

// Streams whose pieces share a call, linked by the number of the next one.
struct Group {
  SharedForm form;
  size_t first, last, count;
};

constexpr size_t kEnd = size_t(-1);

class RowStreams : public PoolStreams, private Acceptance {
 public:
  RowStreams(std::shared_ptr<const Session> session, int64_t capacity, Crew& crew)
      : session_(std::move(session)),
        contract_(session_->contract),
        reader_(contract_, 1),
        store_(contract_.states, capacity),
        forms_(reader_),
        calls_(*session_, store_, crew, *this),
        left_(contract_.outputs) {
    for (size_t i = 0; i < contract_.inputs.size(); ++i) {
      if (!has_axis(contract_.inputs[i].axes, kBatch)) agreed_.push_back(i);
    }
  }

  void attach(size_t row, Arrays* snapshot) override;
  void detach(size_t) override {}
  int64_t steps(size_t row) const override { return store_.rows[row].steps; }
  void reset(size_t row) override;
  const lstm_edge_array* flush(size_t row) override;
  Arrays snapshot(size_t row) const override;
  void restore(size_t row, Arrays arrays) override;
  void push(const Pushed* pieces, size_t count) override;

 private:
  std::vector<Array> made_conditions() const;
  const void** sources_of(size_t index) { return sources_.data() + index * contract_.inputs.size(); }
  const SharedForm& read(const Pushed& pushed, const void** sources);
  const SharedForm& read_slowly(const Pushed& pushed, const void** sources);
  void sort(const Pushed* pieces, size_t index, const SharedForm& form);
  bool agree(const PoolForm& form, const Pushed* pieces, size_t index, size_t other);
  void lay_out_answers(const Pushed* pieces);
  void run(const SharedForm& form, Member* members, size_t count);
  void conclude(const SharedForm& form, const SharedCalls::Call& call);
  void accepted(const PoolForm& form, const Member& member) override;

  const std::shared_ptr<const Session> session_;
  const Contract& contract_;
  const PieceReader reader_;
  PoolStore store_;
  PoolForms forms_;
  SharedCalls calls_;
  std::vector<size_t> agreed_;            // inputs without a batch axis: streams share a call if they agree in them
  std::vector<std::vector<Array>> held_;  // the conditions of each row, which count if it holds some
  std::vector<lstm_edge_array> shown_;    // the answer of each row
  // Of the pieces of one push, by their numbers.
  std::vector<Member> members_, ordered_;
  std::vector<const void*> sources_;
  std::vector<size_t> next_;
  std::vector<Group> groups_;
  Array answers_;
  // What a flush returns.
  Answer left_;
  std::vector<Array> left_arrays_;
};

void RowStreams::attach(size_t row, Arrays* snapshot) {
  if (store_.rows.size() <= row) {
    const size_t rows = row + 1;
    held_.resize(rows);
    shown_.resize(rows * contract_.outputs.size());
    members_.resize(rows);
    ordered_.resize(rows);
    sources_.resize(rows * contract_.inputs.size());
    next_.resize(rows);
    if (groups_.capacity() < rows) groups_.reserve(2 * rows);
    store_.rows.resize(rows);
  }
  if (held_[row].empty()) held_[row] = made_conditions();
  store_.rows[row] = PoolStore::Row();
  if (snapshot != nullptr) restore(row, std::move(*snapshot));
  else store_.clear(row);
}

std::vector<Array> RowStreams::made_conditions() const {
  std::vector<Array> conditions;
  for (size_t k = 0; k < reader_.conditions.size(); ++k) {
    conditions.emplace_back(dtype_of(contract_.inputs[reader_.conditions[k]].dtype), reader_.condition_shapes[k]);
  }
  return conditions;
}

void RowStreams::reset(size_t row) {
  PoolStore::Row& now = store_.rows[row];
  store_.clear(row);
  now.steps = 0;
  now.ended = false;
  if (!reader_.conditions.empty()) now.holds = now.lacks_batch = false;
}

const lstm_edge_array* RowStreams::flush(size_t row) {
  PoolStore::Row& now = store_.rows[row];
  const bool lacks_batch = now.lacks_batch && has_axis(contract_.inputs[reader_.moving[0]].axes, kBatch);
  std::vector<Array> arrays;
  std::vector<Shape> shapes;
  for (const TensorSpec& spec : contract_.outputs) {
    shapes.push_back(answer_shape(spec.axes, 0, 1, lacks_batch, false));
    arrays.emplace_back(dtype_of(spec.dtype), shapes.back());
  }
  left_arrays_ = std::move(arrays);
  left_.show(left_arrays_, shapes);
  now.lacks_batch = false;
  now.ended = true;
  return left_.shown();
}

Arrays RowStreams::snapshot(size_t row) const {
  const PoolStore::Row& now = store_.rows[row];
  Moment moment;
  moment.state = store_.read(row);
  moment.steps = now.steps;
  moment.begun = now.steps > 0;
  moment.ended = now.ended;
  if (now.holds) moment.conditions = clone(held_[row]);
  return moment_to_arrays(moment, reader_);
}

void RowStreams::restore(size_t row, Arrays arrays) {
  Moment moment = moment_from_arrays(std::move(arrays), reader_, Streaming());
  store_.write(row, moment.state);
  PoolStore::Row& now = store_.rows[row];
  now.steps = moment.steps;
  now.lacks_batch = false;
  now.ended = moment.ended;
  now.holds = !moment.conditions.empty();
  if (now.holds) held_[row] = std::move(moment.conditions);
}

void RowStreams::push(const Pushed* pieces, size_t count) {
  forms_.tidy();
  groups_.clear();
  for (size_t i = 0; i < count; ++i) {
    pieces[i].guard([&] { sort(pieces, i, read(pieces[i], sources_of(i))); });
  }
  lay_out_answers(pieces);
  for (const Group& group : groups_) {
    size_t at = 0;
    for (size_t i = group.first; i != kEnd; i = next_[i]) ordered_[at++] = members_[i];
    run(group.form, ordered_.data(), group.count);
  }
}

// Checks the piece of one stream, and finds its form and the memory of each input.
const SharedForm& RowStreams::read(const Pushed& pushed, const void** sources) {
  if (store_.rows[pushed.row].ended) fail(LSTM_EDGE_STREAMING, kEnded);
  if (pushed.piece->inputs == nullptr) fail(LSTM_EDGE_MISUSE, "inputs is NULL");
  const bool holds = store_.rows[pushed.row].holds;
  const SharedForm* form = forms_.find(pushed.piece->inputs, pushed.piece->count, holds, sources);
  for (size_t k = 0; form != nullptr && k < reader_.conditions.size(); ++k) {
    const void*& source = sources[reader_.conditions[k]];
    if (source == nullptr) source = held_[pushed.row][k].data<void>();
  }
  return form != nullptr ? *form : read_slowly(pushed, sources);
}

const SharedForm& RowStreams::read_slowly(const Pushed& pushed, const void** sources) {
  const lstm_edge_pool_piece& piece = *pushed.piece;
  std::vector<View> given;
  for (size_t i = 0; i < piece.count; ++i) given.push_back(view_of(piece.inputs[i]));
  static const std::vector<Array> none;
  const std::vector<Array>& held = store_.rows[pushed.row].holds ? held_[pushed.row] : none;
  const std::vector<View> views = reader_.read(std::move(given), held, steps(pushed.row));
  const SharedForm& form = forms_.make(views);
  for (size_t i = 0; i < views.size(); ++i) sources[i] = views[i].data;
  return form;
}

// Puts a piece into the group that it shares a call with.
void RowStreams::sort(const Pushed* pieces, size_t index, const SharedForm& form) {
  members_[index] = {&pieces[index], sources_of(index), nullptr};
  next_[index] = kEnd;
  for (size_t i = groups_.size(); i-- > 0;) {
    Group& group = groups_[i];
    if (group.form != form || !agree(*form, pieces, index, group.first)) continue;
    next_[group.last] = index;
    group.last = index;
    ++group.count;
    return;
  }
  groups_.push_back({form, index, index, 1});
}

// Whether two pieces of a form agree in what has no batch axis.
bool RowStreams::agree(const PoolForm& form, const Pushed* pieces, size_t index, size_t other) {
  for (size_t slot : agreed_) {
    const size_t bytes = form.piece.expected[slot].bytes;
    if (std::memcmp(sources_of(index)[slot], sources_of(other)[slot], bytes) != 0) return false;
  }
  return !store_.any_shared || store_.shares(pieces[index].row, pieces[other].row);
}

// Gives each answer its memory, before anything runs.
void RowStreams::lay_out_answers(const Pushed* pieces) {
  size_t bytes = 0;
  for (const Group& group : groups_) bytes += group.count * group.form->answer_bytes;
  if (bytes > answers_.bytes()) answers_ = Array(LSTM_EDGE_UINT8, {int64_t(bytes)});
  char* at = answers_.data<char>();
  const size_t outputs = contract_.outputs.size();
  for (const Group& group : groups_) {
    const PoolForm& form = *group.form;
    for (size_t i = group.first; i != kEnd; i = next_[i]) {
      lstm_edge_array* shown = shown_.data() + pieces[i].row * outputs;
      members_[i].answer = at;
      for (size_t k = 0; k < outputs; ++k) {
        shown[k] = form.answer[k];
        shown[k].data = at + form.offsets[k];
      }
      at += form.answer_bytes;
    }
  }
}

void RowStreams::run(const SharedForm& form, Member* members, size_t count) {
  const std::vector<SharedCalls::Call>& failed = calls_.run(form, members, count);
  if (failed.empty()) return;
  const std::vector<SharedCalls::Call> calls = failed;  // the next run fills it again
  for (const SharedCalls::Call& call : calls) conclude(form, call);
}

// Finds out which streams of a call that failed must be refused, and runs the others.
void RowStreams::conclude(const SharedForm& form, const SharedCalls::Call& call) {
  Member* members = call.members;
  if (call.outcome == SharedCalls::Call::kNotFinite) {
    const auto refused = [&](const Member& member) {
      const lstm_edge_pool_piece& piece = *member.pushed->piece;
      const int64_t step = steps(member.pushed->row);
      return !member.pushed->guard([&] { forms_.check_finite(*form, piece.inputs, piece.count, step); });
    };
    const auto end = std::remove_if(members, members + call.count, refused);
    if (end != members) run(form, members, size_t(end - members));
  } else if (call.count > 1) {
    for (size_t i = 0; i < call.count; ++i) run(form, members + i, 1);
  } else if (call.status == LSTM_EDGE_MEMORY) {
    members->pushed->refuse_for_memory();
  } else {
    members->pushed->refuse(call.status,
                            "step " + std::to_string(steps(members->pushed->row)) +
                                ": onnxruntime refused this input, the state is unchanged: " + call.reason);
  }
}

// A stream has its new state: it holds the conditions of the piece from now on.
void RowStreams::accepted(const PoolForm& form, const Member& member) {
  const size_t row = member.pushed->row;
  for (size_t k = 0; k < reader_.conditions.size(); ++k) {
    const size_t slot = reader_.conditions[k];
    void* const held = held_[row][k].data<void>();
    if (held != member.sources[slot]) std::memcpy(held, member.sources[slot], form.piece.expected[slot].bytes);
    store_.rows[row].holds = true;
  }
  member.pushed->answer(shown_.data() + row * contract_.outputs.size());
}

}  // namespace

std::unique_ptr<PoolStreams> make_row_streams(std::shared_ptr<const Session> session, int64_t capacity, Crew& crew) {
  return std::make_unique<RowStreams>(std::move(session), capacity, crew);
}

}  // namespace lstm_edge::device
