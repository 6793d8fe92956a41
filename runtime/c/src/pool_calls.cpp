#include "pool_calls.h"

#include <algorithm>

#include "text.h"

namespace lstm_edge::device {
namespace {

// Rows side by side that were pushed together so often get a plan that is bound to the store: to make it takes as long
// as gathering and scattering states some ten times.
constexpr size_t kSeen = 2;
constexpr size_t kMostRanges = 8;

}  // namespace

size_t share_of_threads(const Crew& crew, size_t rows, int64_t steps, int64_t size_bytes) {
  const double work = double(rows) * double(steps) * double(size_bytes);
  const size_t most = std::min(crew.threads(), rows);
  return std::max(size_t{1}, size_t(std::min(double(most), work / double(kLeastWork))));
}

SharedCalls::SharedCalls(const Session& session, PoolStore& store, Crew& crew, Acceptance& acceptance)
    : session_(session), store_(store), crew_(crew), acceptance_(acceptance), plans_(session, store) {
  calls_.reserve(crew.threads());
  ranges_.resize(kMostRanges);
}

const std::vector<SharedCalls::Call>& SharedCalls::run(const SharedForm& form, Member* members, size_t count) {
  const bool side_by_side = sort_by_row(members, count);
  const size_t first = members[0].pushed->row;
  const bool direct = side_by_side && store_.side_by_side && times_seen(first, count) >= kSeen;
  const bool place = direct && store_.align(first, count);
  const size_t parts = share_of_threads(crew_, count, form->piece.steps, session_.size_bytes);
  calls_.clear();
  failed_.clear();
  for (size_t part = 0; part < parts; ++part) {
    const size_t start = count * part / parts, stop = count * (part + 1) / parts;
    Call call;
    call.members = members + start;
    call.count = stop - start;
    call.place = place;
    try {
      call.plan = plans_.find(form, call.count, direct ? first + start : kGathered, part);
    } catch (const Error& error) {
      for (size_t i = 0; i < call.count; ++i) call.members[i].pushed->refuse(error.status, error.message);
      continue;
    } catch (const std::bad_alloc&) {
      for (size_t i = 0; i < call.count; ++i) call.members[i].pushed->refuse_for_memory();
      continue;
    }
    calls_.push_back(std::move(call));
  }
  if (calls_.empty()) return failed_;
  const auto work = [](void* context, size_t index) {
    auto& self = *static_cast<SharedCalls*>(context);
    Call& call = self.calls_[index];
    self.execute(call);
    if (call.outcome == Call::kDone) self.finish(call);
  };
  crew_.run(calls_.size(), work, this);
  for (Call& call : calls_) {
    if (call.outcome != Call::kDone) failed_.push_back(std::move(call));
  }
  return failed_;
}

// Puts the members into the order of their rows if those lie side by side, and returns whether they do.
bool SharedCalls::sort_by_row(Member* members, size_t count) {
  size_t first = members[0].pushed->row, last = first;
  bool straight = true;
  for (size_t i = 1; i < count; ++i) {
    const size_t row = members[i].pushed->row;
    straight = straight && row == members[i - 1].pushed->row + 1;
    first = std::min(first, row);
    last = std::max(last, row);
  }
  if (straight || last - first + 1 != count) return straight;
  if (sorted_.size() < count) sorted_.resize(std::max(count, store_.rows.size()));
  for (size_t i = 0; i < count; ++i) sorted_[members[i].pushed->row - first] = members[i];
  std::copy(sorted_.begin(), sorted_.begin() + std::ptrdiff_t(count), members);
  return true;
}

size_t SharedCalls::times_seen(size_t first, size_t rows) {
  ++clock_;
  const auto same = [&](const Range& range) { return range.first == first && range.rows == rows; };
  auto found = std::find_if(ranges_.begin(), ranges_.end(), same);
  if (found == ranges_.end()) {
    const auto older = [](const Range& a, const Range& b) { return a.used < b.used; };
    found = std::min_element(ranges_.begin(), ranges_.end(), older);
    *found = {first, rows, 0, 0};
  }
  found->used = clock_;
  return found->times++;
}

// Runs a call. Several threads do this at once, each with a plan and rows that only it uses.
void SharedCalls::execute(Call& call) {
  PoolPlan& plan = *call.plan;
  fill(call);
  if (!inputs_finite(plan)) {
    call.outcome = Call::kNotFinite;
    plan.clear();
    return;
  }
  if (plan.first == kGathered) {
    for (size_t i = 0; i < call.count; ++i) {
      store_.gather(call.members[i].pushed->row, plan.before, i, plan.rows, i == 0);
    }
  }
  try {
    plan.bindings[call.place]->run();
    return;
  } catch (const Error& error) {
    call.status = error.status;
    call.reason = error.message;
  } catch (const std::bad_alloc&) {
    call.status = LSTM_EDGE_MEMORY;
  }
  call.outcome = Call::kRefused;
  plan.clear();
}

void SharedCalls::fill(const Call& call) {
  PoolPlan& plan = *call.plan;
  for (size_t slot = 0; slot < plan.inputs.size(); ++slot) {
    const RowSlices& slices = plan.form->inputs[slot];
    char* to = plan.inputs[slot].data<char>();
    const size_t rows = slices.has_batch ? call.count : 1;  // those without a batch axis are the same in all
    for (size_t i = 0; i < rows; ++i) {
      slices.copy(to + i * slices.bytes, plan.rows, static_cast<const char*>(call.members[i].sources[slot]), 1);
    }
  }
}

bool SharedCalls::inputs_finite(const PoolPlan& plan) const {
  if (LstmEdgeAllFinite(plan.finite.data()) == 0) return false;
  if (!plan.others) return true;
  const auto finite = [](const Array& array) { return all_finite(view_of("", array)); };
  return std::all_of(plan.inputs.begin(), plan.inputs.end(), finite);
}

// Takes over the new states of a call that ran, and writes the answers.
void SharedCalls::finish(const Call& call) {
  const PoolPlan& plan = *call.plan;
  const PoolForm& form = *plan.form;
  const bool all_good = LstmEdgeAllFinite(plan.finite_after[call.place].data()) != 0;
  for (size_t i = 0; i < call.count; ++i) {
    const Member& member = call.members[i];
    const size_t row = member.pushed->row;
    PoolStore::Row& now = store_.rows[row];
    if (!all_good && !state_finite(call, i)) {
      member.pushed->refuse(LSTM_EDGE_INPUT,
                            "step " + std::to_string(now.steps) +
                                ": the new state is not finite: it was discarded, and the old state was kept");
      continue;
    }
    if (plan.first == kGathered) store_.scatter(row, plan.after, i, plan.rows);
    copy_answer(plan, member, i);
    now.place = !now.place;
    now.steps += form.piece.steps;
    now.lacks_batch = (form.piece.form & kLacksBatch) != 0;
    acceptance_.accepted(form, member);
  }
}

// Whether the new state of one member is finite.
bool SharedCalls::state_finite(const Call& call, size_t index) const {
  const PoolPlan& plan = *call.plan;
  for (size_t k = 0; k < store_.tables.size(); ++k) {
    const PoolStore::Table& table = store_.tables[k];
    const RowSlices& slices = table.slices;
    if (table.dtype != LSTM_EDGE_FLOAT32 || slices.bytes == 0) continue;
    const bool direct = plan.first != kGathered;
    const char* from = direct             ? store_.at(table, plan.first + index, !call.place)
                       : slices.has_batch ? plan.after[k] + index * slices.bytes
                                          : plan.after[k];
    for (size_t i = 0; i < slices.before; ++i) {
      const Span spans[] = {{reinterpret_cast<const float*>(from), slices.bytes / sizeof(float)}, {}};
      if (LstmEdgeAllFinite(spans) == 0) return false;
      from += plan.rows * slices.bytes;
    }
  }
  return true;
}

void SharedCalls::copy_answer(const PoolPlan& plan, const Member& member, size_t index) const {
  for (size_t k = 0; k < plan.outputs.size(); ++k) {
    const RowSlices& slices = plan.form->outputs[k];
    slices.copy(member.answer + plan.form->offsets[k], 1, plan.outputs[k].data<char>() + index * slices.bytes,
                plan.rows);
  }
}

}  // namespace lstm_edge::device
