// The command bench: the time of a push, at a rate or as fast as possible.
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <vector>

#include "commands.h"
#include "text.h"

namespace device_program {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int kWarmUp = 10;  // pushes before the first that counts, so that the state is not zero

int64_t now_ns() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return int64_t(time.tv_sec) * kSecond + time.tv_nsec;
}

void sleep_until(int64_t when) {
  const timespec time{time_t(when / kSecond), long(when % kSecond)};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, nullptr) == EINTR) {
  }
}

// Random inputs for the pushes: floats in -1 to 1, zeros for every other dtype.
class Inputs {
 public:
  Inputs(const lstm_edge_session* session, int64_t batch_size, int64_t steps) {
    const std::vector<lstm_edge_tensor> all = tensors(session, LSTM_EDGE_INPUTS);
    const bool timed = std::any_of(all.begin(), all.end(), has_time);
    for (const lstm_edge_tensor& tensor : all) {
      lstm_edge_array array{};
      fill_shape(tensor, batch_size, steps, array);
      memory_.emplace_back(element_count(array) * item_size(array.dtype) / 8 + 1);
      array.data = memory_.back().data();
      // An input without a time axis beside others with one is given once and kept by the stream.
      arrays_.insert(!timed || has_time(tensor) ? arrays_.begin() + moving_++ : arrays_.end(), array);
    }
  }

  void draw() {
    for (size_t i = 0; i < moving_; ++i) {
      const lstm_edge_array& array = arrays_[i];
      const size_t count = element_count(array);
      if (array.dtype == LSTM_EDGE_FLOAT32)
        std::generate_n(static_cast<float*>(array.data), count, [&] { return next(); });
      if (array.dtype == LSTM_EDGE_FLOAT64)
        std::generate_n(static_cast<double*>(array.data), count, [&] { return next(); });
    }
  }

  const lstm_edge_array* arrays() const { return arrays_.data(); }
  size_t count() const { return arrays_.size(); }
  size_t moving() const { return moving_; }

 private:
  float next() {
    random_ = random_ * 6364136223846793005u + 1442695040888963407u;
    return float(int32_t(random_ >> 32)) / 2147483648.0f;
  }

  std::vector<std::vector<uint64_t>> memory_;
  std::vector<lstm_edge_array> arrays_;
  size_t moving_ = 0;
  uint64_t random_ = 1;
};

struct Measured {
  std::vector<int64_t> times_ns;
  int64_t missed = 0;
  int64_t worst_wake_ns = 0;  // how late the latest call began
};

double microseconds(int64_t ns) { return double(ns) / 1000.0; }

// The smallest time that a share of all calls keeps; the times are sorted.
double quantile_us(const std::vector<int64_t>& times, double share) {
  const auto rank = size_t(std::ceil(share * double(times.size())));
  return microseconds(times[std::max<size_t>(rank, 1) - 1]);
}

int64_t push(lstm_edge_stream* stream, const Inputs& inputs, size_t count) {
  const lstm_edge_array* outputs = nullptr;
  const int64_t begin = now_ns();
  const lstm_edge_status status = lstm_edge_stream_push(stream, inputs.arrays(), count, &outputs);
  const int64_t end = now_ns();
  check(status);
  return end - begin;
}

Measured measure(lstm_edge_stream* stream, Inputs& inputs, const Arguments& arguments) {
  Measured measured;
  measured.times_ns.resize(size_t(arguments.calls));
  const double period = arguments.rate_hz > 0 ? double(kSecond) / arguments.rate_hz : 0;
  const int64_t begin = now_ns() + int64_t(period);
  int64_t slot = 0;
  for (int64_t& time : measured.times_ns) {
    inputs.draw();
    const int64_t due = begin + int64_t(period * double(slot));
    if (period > 0) {
      sleep_until(due);
      measured.worst_wake_ns = std::max(measured.worst_wake_ns, now_ns() - due);
    }
    time = push(stream, inputs, inputs.moving());
    if (period > 0) {
      // Each start that passes before the answer is there is a missed deadline, and is left out.
      const auto late = int64_t(double(now_ns() - due) / period);
      measured.missed += late;
      slot += late + 1;
    }
  }
  return measured;
}

struct Row {
  const char* key;
  const char* title;
  double value;
};

void print_result(const Arguments& arguments, const lstm_edge_info& info, const std::vector<Row>& rows,
                  const Measured& measured) {
  std::string text;
  if (arguments.json) {
    text = "{\n  \"calls\": " + std::to_string(arguments.calls) + ",\n  \"rate_hz\": ";
    if (arguments.rate_hz > 0) {
      append_number(text, arguments.rate_hz);
    } else {
      text += "null";
    }
    text += ",\n  \"batch_size\": " + std::to_string(arguments.batch_size) +
            ",\n  \"steps\": " + std::to_string(arguments.steps) +
            ",\n  \"threads\": " + std::to_string(arguments.session.threads) + ",\n  \"kernels\": ";
    if (info.kernels != nullptr) {
      append_json_string(text, info.kernels);
    } else {
      text += "null";
    }
    text += ",\n  \"onnxruntime\": ";
    append_json_string(text, info.onnxruntime_version);
    for (const Row& row : rows) (text += ",\n  \"") += std::string(row.key) + "\": " + formatted("%.3f", row.value);
    text += ",\n  \"missed_deadlines\": " +
            (arguments.rate_hz > 0 ? std::to_string(measured.missed) : std::string("null")) + "\n}\n";
    print(printable(text));
    return;
  }
  text = "onnxruntime " + std::string(info.onnxruntime_version) + ", " +
         (info.kernels != nullptr ? "kernels (" + std::string(info.kernels) + ")" : "no kernels") + ", " +
         grouped(arguments.calls) + " pushes\n";
  for (const Row& row : rows) text += std::string(row.title) + formatted(" %12.1f", row.value) + "\n";
  if (arguments.rate_hz > 0) text += "missed deadlines         " + formatted(" %12.0f", double(measured.missed)) + "\n";
  print(printable(text));
}

}  // namespace

int bench(const Arguments& arguments) {
  const int64_t began = now_ns();
  const Session session = open_session(arguments.model.c_str(), arguments.session);
  const Stream stream = open_stream(session.get(), arguments.batch_size);
  const int64_t opened = now_ns();
  Inputs inputs(session.get(), arguments.batch_size, arguments.steps);
  inputs.draw();
  const int64_t first = push(stream.get(), inputs, inputs.count());
  for (int i = 0; i < kWarmUp; ++i) {
    inputs.draw();
    push(stream.get(), inputs, inputs.moving());
  }
  Measured measured = measure(stream.get(), inputs, arguments);
  std::vector<int64_t>& times = measured.times_ns;
  std::sort(times.begin(), times.end());
  std::vector<Row> rows = {
      {"load_us", "opening the file, us     ", microseconds(opened - began)},
      {"first_us", "first push, us           ", microseconds(first)},
      {"p50_us", "push, median, us         ", quantile_us(times, 0.5)},
      {"p99_us", "push, p99, us            ", quantile_us(times, 0.99)},
      {"p999_us", "push, p99.9, us          ", quantile_us(times, 0.999)},
      {"worst_us", "push, worst, us          ", microseconds(times.back())},
  };
  if (arguments.rate_hz > 0) {
    rows.push_back({"worst_wake_us", "latest start, us         ", microseconds(measured.worst_wake_ns)});
  }
  print_result(arguments, describe(session.get()), rows, measured);
  return 0;
}

}  // namespace device_program
