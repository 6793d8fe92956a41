// Count the output steps of a model that does not give one output step for each input step: stepping.py.
#pragma once

#include <cstdint>

#include "card.h"

namespace lstm_edge::device {

// Whether every input step gives one output step at once, and the end of a sequence is like any step.
inline bool is_one_to_one(const Streaming& streaming) {
  return streaming.first == 1 && streaming.first_gives == 1 && streaming.every == 1 && streaming.gives == 1 &&
         !streaming.end;
}

// How many of the available input steps the next call takes; 0 if they complete no output.
inline int64_t ready_steps(const Streaming& streaming, int64_t available, bool begun) {
  if (begun) return available - available % streaming.every;
  if (available < streaming.first) return 0;
  return available - (available - streaming.first) % streaming.every;
}

// The output steps of a call that has a number of input steps that ready_steps returned (above 0).
inline int64_t given_steps(const Streaming& streaming, int64_t steps, bool begun) {
  if (begun) return steps / streaming.every * streaming.gives;
  return streaming.first_gives + (steps - streaming.first) / streaming.every * streaming.gives;
}

// Whether a call with this number of input steps leaves none that completes no output.
inline bool completes(const Streaming& streaming, int64_t steps, bool begun) {
  return steps > 0 && ready_steps(streaming, steps, begun) == steps;
}

}  // namespace lstm_edge::device
