// Are a file's lstm_edge functions the ones that docs/operators.md fixes, and is it whole? See function_check.py.
#pragma once

#include <string>
#include <vector>

#include "model_reading.h"

namespace lstm_edge::device {

// Compares each function of the domain lstm_edge with the SHA-256 of the one that its name stands for, and refuses
// functions whose inlining would not end, and overloads of our names.
void check_functions(const ModelReading& reading);

// Refuses a model with weights in another file.
void check_whole(const ModelReading& reading);

// The name of each lstm_edge operator that a model calls, once for each call: those of the graph first, then those in
// bodies of functions of other domains.
std::vector<std::string> called_operators(const ModelReading& reading);

}  // namespace lstm_edge::device
