// The command line of lstm-edge-device.
#pragma once

#include <string>

#include "lines.h"
#include "lstm_edge.h"

namespace device_program {

struct Arguments {
  std::string command;  // inspect, check, bench or run; empty where the text below was asked for
  std::string show;     // help or version text to print instead
  int exit_code = 0;    // after that text
  std::string model;
  std::string onnxruntime;
  lstm_edge_options session = LSTM_EDGE_OPTIONS_INIT;
  bool json = false;
  bool raw = false;
  int64_t batch_size = 1;
  int64_t steps = 1;
  int64_t calls = 1000;
  double rate_hz = 0;  // 0: as fast as possible
  OnBadLine on_bad_line = OnBadLine::kStop;
  std::string state;
};

// Throws Failure with exit code 2 and a sentence that says what is expected.
Arguments parse_arguments(int count, char** words);

}  // namespace device_program
