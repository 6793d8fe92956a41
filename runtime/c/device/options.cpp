#include "options.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "help.h"
#include "text.h"

namespace device_program {
namespace {

struct Option {
  const char* name;
  const char* commands;  // the commands that take it
  bool takes_value;
  void (*set)(Arguments&, const std::string&);
};

[[noreturn]] void refuse(const std::string& sentence) { throw Failure(2, sentence); }

int64_t positive(const char* name, const std::string& value, int64_t most) {
  char* end = nullptr;
  const long long number = std::strtoll(value.c_str(), &end, 10);
  if (value.empty() || *end != 0 || number < 1 || number > most) {
    refuse(std::string(name) + " is " + quoted(value) + ", expected an integer from 1 to " + grouped(most));
  }
  return number;
}

double rate(const std::string& value) {
  char* end = nullptr;
  const double number = std::strtod(value.c_str(), &end);
  if (value.empty() || *end != 0 || !(number >= 0.001 && number <= 1e6)) {
    refuse("--rate is " + quoted(value) + ", expected calls per second, from 0.001 to 1,000,000");
  }
  return number;
}

lstm_edge_kernels kernels(const std::string& value) {
  if (value == "auto") return LSTM_EDGE_KERNELS_AUTO;
  if (value == "required") return LSTM_EDGE_KERNELS_REQUIRED;
  if (value == "off") return LSTM_EDGE_KERNELS_OFF;
  refuse("--kernels is " + quoted(value) + ", expected one of auto, required, off");
}

OnBadLine on_bad_line(const std::string& value) {
  if (value == "stop") return OnBadLine::kStop;
  if (value == "skip") return OnBadLine::kSkip;
  if (value == "hold") return OnBadLine::kHold;
  refuse("--on-bad-line is " + quoted(value) + ", expected one of stop, skip, hold");
}

const std::vector<Option>& options() {
  static const std::vector<Option> all = {
      {"--onnxruntime", "inspect check bench run", true, [](Arguments& a, const std::string& v) { a.onnxruntime = v; }},
      {"--threads", "inspect check bench run", true,
       [](Arguments& a, const std::string& v) { a.session.threads = int32_t(positive("--threads", v, 1024)); }},
      {"--kernels", "inspect check bench run", true,
       [](Arguments& a, const std::string& v) { a.session.kernels = kernels(v); }},
      {"--lock-memory", "bench run", false, [](Arguments& a, const std::string&) { a.session.lock_memory = 1; }},
      {"--json", "inspect check bench", false, [](Arguments& a, const std::string&) { a.json = true; }},
      {"--batch-size", "bench run", true,
       [](Arguments& a, const std::string& v) { a.batch_size = positive("--batch-size", v, 65536); }},
      {"--steps", "bench run", true,
       [](Arguments& a, const std::string& v) { a.steps = positive("--steps", v, 1 << 24); }},
      {"--calls", "bench", true,
       [](Arguments& a, const std::string& v) { a.calls = positive("--calls", v, 100'000'000); }},
      {"--rate", "bench", true, [](Arguments& a, const std::string& v) { a.rate_hz = rate(v); }},
      {"--raw", "run", false, [](Arguments& a, const std::string&) { a.raw = true; }},
      {"--on-bad-line", "run", true, [](Arguments& a, const std::string& v) { a.on_bad_line = on_bad_line(v); }},
      {"--state", "run", true, [](Arguments& a, const std::string& v) { a.state = v; }},
  };
  return all;
}

bool has_word(const char* words, const std::string& word) {
  return (" " + std::string(words) + " ").find(" " + word + " ") != std::string::npos;
}

const Option& find_option(const std::string& name, const std::string& command) {
  for (const Option& option : options()) {
    if (name == option.name && has_word(option.commands, command)) return option;
  }
  refuse("lstm-edge-device " + command + " has no option " + name);
}

void check_together(const Arguments& arguments) {
  if (arguments.raw && arguments.on_bad_line != OnBadLine::kStop)
    refuse("--on-bad-line is for JSON lines: leave out --raw");
  if (arguments.command == "run" && arguments.steps != 1 && !arguments.raw) {
    refuse("--steps is for --raw: a line of JSON has the steps that its list has");
  }
}

// Reads the words behind the command.
Arguments parse_words(const std::vector<std::string>& words, Arguments arguments) {
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word == "--help" || word == "-h") {
      arguments.show = help_of(arguments.command);
      arguments.command.clear();
      return arguments;
    }
    if (word.size() < 2 || word[0] != '-') {
      if (!arguments.model.empty()) refuse("unexpected argument " + word);
      arguments.model = word;
      continue;
    }
    const size_t equals = word.find('=');
    const Option& option = find_option(word.substr(0, equals), arguments.command);
    if (!option.takes_value && equals != std::string::npos) refuse(std::string(option.name) + " takes no value");
    if (option.takes_value && equals == std::string::npos && i + 1 == words.size()) {
      refuse(std::string(option.name) + " needs a value");
    }
    option.set(arguments, !option.takes_value           ? ""
                          : equals == std::string::npos ? words[++i]
                                                        : word.substr(equals + 1));
  }
  if (arguments.model.empty()) refuse("MODEL.onnx is missing");
  check_together(arguments);
  return arguments;
}

}  // namespace

Arguments parse_arguments(int count, char** words) {
  Arguments arguments;
  const std::vector<std::string> given(words + 1, words + count);
  if (given.empty() || given[0] == "--help" || given[0] == "-h") {
    arguments.show = kHelp;
    arguments.exit_code = given.empty() ? 2 : 0;
    return arguments;
  }
  if (given[0] == "-V" || given[0] == "--version") {
    arguments.show = std::string(lstm_edge_version()) + "\n";
    return arguments;
  }
  arguments.command = given[0];
  if (help_of(arguments.command).empty()) {
    refuse("lstm-edge-device has no command " + quoted(given[0]) +
           ", expected one of inspect, check, bench, run; lstm-edge-device --help describes the command");
  }
  try {
    return parse_words({given.begin() + 1, given.end()}, arguments);
  } catch (const Failure& failure) {
    refuse(failure.sentence + "; lstm-edge-device " + arguments.command + " --help describes the command");
  }
}

}  // namespace device_program
