// The inputs without a time axis, which a stream holds until they are replaced.
#pragma once

#include <vector>

#include "pieces.h"

namespace lstm_edge::device {

class Conditions {
 public:
  explicit Conditions(const PieceReader& reader);

  // The memory that the graph reads, for each condition of the reader; a push writes what it gives here.
  std::vector<Array> live;
  // Those that were accepted; only meaningful if `holds`.
  const std::vector<Array>& held() const { return held_; }
  bool holds() const { return holds_; }
  // What `live` has is held from now on; or what was held before is again what the graph reads.
  void accept();
  void refuse();
  void forget() { holds_ = false; }
  // An array for each condition; none: nothing is held.
  void set(const std::vector<Array>& arrays);

 private:
  std::vector<Array> held_;
  bool holds_ = false;
};

}  // namespace lstm_edge::device
