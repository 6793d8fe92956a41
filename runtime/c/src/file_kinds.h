// Which kind of file is given where a model is expected: lstm_edge_runtime/file_kinds.py, with its sentences.
#pragma once

#include <string>
#include <string_view>

namespace lstm_edge::device {

// Throws LSTM_EDGE_ARTIFACT where the bytes of a file are a checkpoint, a program, an archive, arrays or a text.
void check_kind(std::string_view data, const std::string& path);

}  // namespace lstm_edge::device
