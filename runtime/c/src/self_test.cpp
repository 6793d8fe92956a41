#include "self_test.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <tuple>

#include "error.h"
#include "states.h"
#include "text.h"

namespace lstm_edge::device {
namespace {

std::vector<NamedArray> run(const Session& session, const GoldenVector& vector) {
  const Contract& contract = session.contract;
  Call call;
  std::vector<std::optional<View>> states(contract.states.size());
  bool has_states = false;
  for (const auto& [name, array] : vector.inputs) {
    const View view = view_of(name, array);
    if (contract.end == name) {
      // The vector is a part of a sequence, cut anywhere.
      for (int64_t i = 0; i < view.count(); ++i) {
        if (element(view, i) == 0) return session.run_graph(vector.inputs);
      }
      continue;
    }
    if (contract.lengths == name) {
      call.lengths = view;
      continue;
    }
    for (size_t i = 0; i < states.size(); ++i) {
      if (contract.states[i].input != name) continue;
      states[i] = view;
      has_states = true;
    }
    call.inputs.push_back(view);
  }
  if (has_states) check_states(contract.states, states);
  return session.run(call);
}

double difference(const Array& got, const Array& expected, int64_t stride) {
  const View a = view_of("", got), b = view_of("", expected);
  const int64_t count = b.count();
  const bool fits =
      stride > 0 ? b.rank == 1 && (a.count() + stride - 1) / stride == count : a.has_shape(expected.shape);
  if (!fits) return std::numeric_limits<double>::infinity();
  double worst = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double x = element(a, stride > 0 ? i * stride : i), y = element(b, i);
    if (x == y) continue;
    const double found = std::fabs(x - y);
    if (std::isnan(found)) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, found);
  }
  return worst;
}

double share_of(double difference, double tolerance) {
  if (tolerance > 0) return difference / tolerance;
  return difference > 0 ? std::numeric_limits<double>::infinity() : 0.0;
}

}  // namespace

SelfTest self_test(const Session& session) {
  Golden golden;
  if (session.golden) golden = decode_golden(*session.golden);
  if (golden.vectors.empty()) {
    fail(LSTM_EDGE_ARTIFACT, "the file carries no golden vectors: export it with lstm-edge to be able to self-test it");
  }
  SelfTest result;
  result.vectors = int32_t(golden.vectors.size());
  std::map<std::string, double> worst;
  for (size_t number = 0; number < golden.vectors.size(); ++number) {
    const GoldenVector& vector = golden.vectors[number];
    const std::vector<NamedArray> answers = run(session, vector);
    for (const auto& [name, expected] : vector.outputs) {
      const auto same = [&, &wanted = name](const NamedArray& answer) { return answer.name == wanted; };
      const auto answer = std::find_if(answers.begin(), answers.end(), same);
      if (answer == answers.end()) {
        fail(LSTM_EDGE_ARTIFACT,
             "golden vector " + std::to_string(number) + " has the output " + repr(name) + ", which the model lacks");
      }
      const auto stride = vector.strides.find(name);
      const double found = difference(answer->array, expected, stride == vector.strides.end() ? 0 : stride->second);
      double& greatest = worst[name];
      greatest = std::max(greatest, found);
    }
  }
  result.passed = true;
  auto most = std::tuple(-1.0, 0.0, 0.0);
  for (const auto& [name, found] : worst) {
    const double tolerance = golden.tolerance(name, !session.kernels.empty());
    result.passed = result.passed && found <= tolerance;
    // Ordered by the share of the tolerance, then the difference, then the smaller tolerance, as in selftest.py.
    const auto share = std::tuple(share_of(found, tolerance), found, -tolerance);
    if (share <= most) continue;
    most = share;
    result.worst = found;
    result.tolerance = tolerance;
    result.output = name;
  }
  return result;
}

}  // namespace lstm_edge::device
