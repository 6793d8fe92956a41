// The names of a graph's tensors and axes in full: onnxruntime's C interface ends each at its first NUL.
#pragma once

#include <string_view>
#include <vector>

#include "contract.h"
#include "model_file.h"

namespace lstm_edge::device {

// Replaces names that were cut by those in the file's bytes. `inputs` and `outputs` are those that onnxruntime reports.
void restore_names(std::string_view bytes, const CheckedModel& model, std::vector<GraphTensor>& inputs,
                   std::vector<GraphTensor>& outputs);

}  // namespace lstm_edge::device
