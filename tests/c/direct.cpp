// Runs a model on the kernels alone and in onnxruntime, on the same arrays, and compares the bits: JSON to standard
// output.
//
//   direct LIBONNXRUNTIME MODEL BATCH STEPS SEED [LENGTH]
//
// Inputs are random; whole numbers are lengths, LENGTH if it is given, else 0 to STEPS.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>

#include "error.h"
#include "json.h"
#include "model_reading.h"
#include "ort.h"
#include "text.h"

using namespace lstm_edge::device;

namespace {

struct Run {
  std::shared_ptr<const Graph> graph;
  std::vector<Array> outputs;
  std::unique_ptr<Binding> binding;
  std::string refusal;

  void start(const std::vector<Lent>& given, const std::vector<Array>& like) {
    std::vector<Lent> taken;
    for (size_t i = 0; i < like.size(); ++i) {
      outputs.emplace_back(like[i].dtype, like[i].shape);
      // What a run does not write is seen.
      std::memset(outputs.back().data<void>(), 0x55, outputs.back().bytes());
    }
    for (size_t i = 0; i < outputs.size(); ++i) {
      taken.push_back({graph->outputs[i].name, outputs[i].dtype, outputs[i].shape, outputs[i].data<void>()});
    }
    binding = graph->bind(given, taken);
  }
  void run() {
    try {
      binding->run();
    } catch (const Error& error) {
      refusal = error.message;
    }
  }
};

Shape shape_of(const GraphTensor& tensor, int64_t batch, int64_t steps) {
  Shape shape;
  for (const Axis& axis : tensor.axes) {
    const auto* size = std::get_if<int64_t>(&axis);
    shape.push_back(size != nullptr ? *size : std::get<std::string>(axis) == "time" ? steps : batch);
  }
  return shape;
}

bool same(const std::vector<Array>& a, const std::vector<Array>& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].bytes() != b[i].bytes() || std::memcmp(a[i].data<char>(), b[i].data<char>(), a[i].bytes()) != 0)
      return false;
  }
  return a.size() == b.size();
}

}  // namespace

int main(int count, char** words) {
  if (count < 6) return 2;
  std::ifstream file(words[2], std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  const int64_t batch = std::atoll(words[3]), steps = std::atoll(words[4]);
  std::mt19937 random(unsigned(std::atoi(words[5])));
  try {
    const ModelReading reading = read_model(bytes);
    Run direct, whole;
    direct.graph = open_graph(bytes, {words[1], 1, true, {}, &reading});
    whole.graph = open_graph(bytes, {words[1], 1, true, {}, nullptr});
    std::vector<Array> inputs;
    std::vector<Lent> given;
    inputs.reserve(whole.graph->inputs.size());
    for (const GraphTensor& input : whole.graph->inputs) {
      const Shape shape = shape_of(input, batch, steps);
      const bool whole_numbers = input.type == "tensor(int64)";
      inputs.emplace_back(whole_numbers ? LSTM_EDGE_INT64 : LSTM_EDGE_FLOAT32, shape);
      for (int64_t i = 0; i < element_count(shape); ++i) {
        if (whole_numbers) {
          inputs.back().data<int64_t>()[i] = count > 6 ? std::atoll(words[6]) : int64_t(random() % uint64_t(steps + 1));
        } else {
          inputs.back().data<float>()[i] = std::normal_distribution<float>()(random);
        }
      }
      given.push_back({input.name, inputs.back().dtype, shape, inputs.back().data<void>()});
    }
    std::vector<std::string> names;
    for (const GraphTensor& output : whole.graph->outputs) names.push_back(output.name);
    std::vector<Array> like;
    if (count == 6) like = whole.graph->run(given, names);
    for (const GraphTensor& output : whole.graph->outputs) {  // of inputs that are refused
      if (count > 6) like.emplace_back(LSTM_EDGE_FLOAT32, shape_of(output, batch, steps));
    }
    for (Run* run : {&direct, &whole}) {
      run->start(given, like);
      run->run();
      run->run();  // again on the same buffers
    }
    std::string refusals;
    for (const Run* run : {&direct, &whole}) refusals += ", " + json::write(json::Value(run->refusal));
    std::printf("{\"direct\": %s, \"other\": %s, \"same\": %s, \"refusals\": [%s]}\n",
                direct.binding->is_direct() ? "true" : "false", whole.binding->is_direct() ? "true" : "false",
                same(direct.outputs, whole.outputs) ? "true" : "false", refusals.c_str() + 2);
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.message.c_str());
    return 1;
  }
  return 0;
}
