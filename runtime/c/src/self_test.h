// Does this device give the answers that the file was made with? selftest.py.
#pragma once

#include "session.h"

namespace lstm_edge::device {

struct SelfTest {
  // Of the output whose difference is the largest share of its tolerance; infinite where one side is NaN or the shapes
  // differ.
  double worst = 0;
  double tolerance = 0;
  std::string output;
  int32_t vectors = 0;
  bool passed = false;
};

// Throws Error (LSTM_EDGE_ARTIFACT): the file carries no golden vectors, or they do not fit its graph.
SelfTest self_test(const Session& session);

}  // namespace lstm_edge::device
