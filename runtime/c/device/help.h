// What --help prints, at most 80 columns wide.
#pragma once

#include <string>

namespace device_program {

constexpr char kHelp[] = R"(Usage: lstm-edge-device COMMAND [OPTIONS] MODEL.onnx

Run, check and measure a model file of lstm-edge without Python.

Commands:
  inspect  Print the tensors of a file and what is known about it.
  check    Run the file's golden vectors and compare the answers.
  bench    Measure a push: median, tail and missed deadlines.
  run      Stream JSON lines or raw float32 from standard input.

Options:
  -V, --version   Print the version and exit.
  -h, --help      Print this text, or that of a command, and exit.

onnxruntime is opened from --onnxruntime PATH, else from the environment
variable LSTM_EDGE_ONNXRUNTIME, else as libonnxruntime.so.1.

Exit codes: 0 success; 1 the self-test failed or the file is damaged; 2 wrong
usage, input or environment; 130 and 143 ended by SIGINT and SIGTERM.
)";

// What every command takes.
constexpr char kCommonOptions[] =
    R"(  --onnxruntime PATH    The library libonnxruntime.so to open.
  --threads N           Number of compute threads. [default: 1]
  --kernels CHOICE      Fused kernels: auto, required or off. [default: auto]
)";

constexpr char kInspectHelp[] = R"(Usage: lstm-edge-device inspect [OPTIONS] MODEL.onnx

Print the tensors of a file, its states, how it is run and what could not be
verified. The file is checked as for every other command.

Options:
  --json                Print one JSON object, with the model card.
)";

constexpr char kInspectExamples[] = R"(
Examples:
  lstm-edge-device inspect model.onnx
  lstm-edge-device inspect --json model.onnx
)";

constexpr char kCheckHelp[] = R"(Usage: lstm-edge-device check [OPTIONS] MODEL.onnx

Run the file's golden vectors on this device and compare the outputs with the
stored ones. Exit code 1: the worst difference is over the file's tolerance, or
the file is damaged. Exit code 2: it cannot be read, or has no golden vectors.

Options:
  --json                Print the result as one JSON object.
)";

constexpr char kCheckExamples[] = R"(
Examples:
  lstm-edge-device check model.onnx
  lstm-edge-device check --kernels off --json model.onnx
)";

constexpr char kBenchHelp[] = R"(Usage: lstm-edge-device bench [OPTIONS] MODEL.onnx

Measure one push of a stream: p50, p99, p99.9 and the worst time in
microseconds. Inputs are random (zeros for integers). With --rate the calls
start at fixed times, and those whose answer is later than the next start are
counted as missed deadlines; without it they follow each other at once.

Options:
  --calls N             Number of pushes to time. [default: 1000]
  --rate HZ             Pushes per second. [default: as fast as possible]
  --steps N             Time steps in a push. [default: 1]
  --batch-size N        Rows in a batch. [default: 1]
  --lock-memory         Lock the memory (mlockall) and keep what is freed.
  --json                Print the result as one JSON object.
)";

constexpr char kBenchExamples[] = R"(
Examples:
  lstm-edge-device bench --calls 100000 model.onnx
  lstm-edge-device bench --rate 200 --lock-memory --json model.onnx
  chrt -f 50 lstm-edge-device bench --rate 1000 --calls 60000 model.onnx
)";

constexpr char kRunHelp[] = R"(Usage: lstm-edge-device run [OPTIONS] MODEL.onnx

Stream standard input through a model. Each line of JSON is a frame or a chunk
(a list) or an object of named inputs, and gives one line of output at once.
{"reset": true} resets the state, {"flush": true} ends the sequence. It is the
format of `lstm-edge run --stream`. The first invalid line is reported with its
number and ends the command with exit code 2.

With --raw each piece is --steps steps of the model's float32 input, little
endian, rows first, and gives the bytes of its float32 outputs.

The end of the input gives the outputs that are left; with --state the sequence
goes on later instead. A closed output ends the command with exit code 0,
SIGTERM with 143: the piece that is being answered is finished first.

Options:
  --raw                 Read and write float32 instead of JSON lines.
  --steps N             With --raw: time steps in a piece. [default: 1]
  --batch-size N        Rows in a batch. [default: 1]
  --on-bad-line CHOICE  At a line that cannot be run: stop, skip (answer with
                        the error) or hold (also repeat the last good line).
                        [default: stop]
  --state FILE          Continue from this .npz file if it exists, and write it
                        at the end.
  --lock-memory         Lock the memory (mlockall) and keep what is freed.
)";

constexpr char kRunExamples[] = R"(
Examples:
  echo '[0.1, 0.2, 0.3]' | lstm-edge-device run model.onnx
  arecord -f FLOAT_LE -r 16000 -t raw | lstm-edge-device run --raw vad.onnx
  lstm-edge-device run --state s.npz --on-bad-line hold model.onnx < sensor
)";

// The text of a command; empty where there is no such command.
inline std::string help_of(const std::string& command) {
  const auto joined = [](const char* text, const char* examples) {
    return std::string(text) + kCommonOptions + examples;
  };
  if (command == "inspect") return joined(kInspectHelp, kInspectExamples);
  if (command == "check") return joined(kCheckHelp, kCheckExamples);
  if (command == "bench") return joined(kBenchHelp, kBenchExamples);
  return command == "run" ? joined(kRunHelp, kRunExamples) : "";
}

}  // namespace device_program
