// The C interface: handles, statuses, and the sentence of the last failure. No exception leaves it.
#include "c_api.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>

#include "model_file.h"
#include "self_test.h"
#include "text.h"
#include "versioned.h"

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#ifndef LSTM_EDGE_VERSION
#define LSTM_EDGE_VERSION "unknown"
#endif

namespace device = lstm_edge::device;
using device::check_pointer;
using device::fail;
using device::guarded;

namespace lstm_edge::device {
namespace {

std::string& last_error() {
  static thread_local std::string message;
  return message;
}

}  // namespace

lstm_edge_status refuse_call(lstm_edge_status status, const char* message) noexcept {
  try {
    last_error() = message;
  } catch (...) {
    last_error().clear();
  }
  return status;
}

void check_pointer(const void* pointer, const char* name) {
  if (pointer == nullptr) fail(LSTM_EDGE_MISUSE, std::string(name) + " is NULL");
}

}  // namespace lstm_edge::device

namespace {

// The bytes of a struct in the first version of the header: up to and with its last field then.
constexpr size_t kFirstOptions = offsetof(lstm_edge_options, reserved) + sizeof(lstm_edge_options::reserved);
constexpr size_t kFirstInfo = offsetof(lstm_edge_info, verified) + sizeof(lstm_edge_info::verified);
constexpr size_t kFirstCheck = offsetof(lstm_edge_check_result, passed) + sizeof(lstm_edge_check_result::passed);

// Keeps what is freed in the process, with room for more. onnxruntime asks for memory in each run; where that lies at
// the end of the heap, glibc would give it back to the system and take it again (brk) in every push, or in none: the
// same program does one or the other by where its heap begins.
void keep_heap() {
#if defined(__GLIBC__)
  constexpr int kRoom = 1 << 20;  // bytes at the end of the heap, beyond what is in use
  mallopt(M_TRIM_THRESHOLD, -1);  // never
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TOP_PAD, kRoom);
  void* volatile room = std::malloc(kRoom);
  std::free(room);
#endif
}

void lock_memory() {
  if (mlockall(MCL_CURRENT | MCL_FUTURE) == 0) return keep_heap();
  const int reason = errno;
  fail(LSTM_EDGE_MEMORY, std::string("memory cannot be locked (") + std::strerror(reason) +
                             "): raise the limit of locked memory (ulimit -l), or open without lock_memory");
}

lstm_edge_session* open(const std::string& bytes, const lstm_edge_options* options) {
  device::Options chosen;
  lstm_edge_options known = LSTM_EDGE_OPTIONS_INIT;
  if (options != nullptr) {
    known = device::read_struct(*options, kFirstOptions, known, "lstm_edge_options");
    if (known.reserved != 0) {
      fail(LSTM_EDGE_MISUSE, "lstm_edge_options.reserved is " + std::to_string(known.reserved) + ", expected 0");
    }
  }
  if (known.onnxruntime != nullptr) chosen.onnxruntime = known.onnxruntime;
  chosen.kernels = known.kernels;
  chosen.threads = known.threads;
  auto opened = std::make_unique<lstm_edge_session>();
  opened->session = std::make_shared<const device::Session>(bytes, chosen);
  for (const std::string& note : opened->session->notes) opened->notes += (opened->notes.empty() ? "" : "\n") + note;
  if (known.lock_memory != 0) lock_memory();
  return opened.release();
}

bool is_of_file(lstm_edge_status status) {
  return status == LSTM_EDGE_ARTIFACT || status == LSTM_EDGE_INTEGRITY || status == LSTM_EDGE_CARD;
}

void describe_axes(const device::Axes& axes, const std::string& name, lstm_edge_tensor& tensor) {
  if (axes.size() > LSTM_EDGE_MOST_AXES) {
    fail(LSTM_EDGE_INPUT, device::repr(name) + " has " + std::to_string(axes.size()) +
                              " axes, the C interface shows at most " + std::to_string(LSTM_EDGE_MOST_AXES));
  }
  tensor.rank = int32_t(axes.size());
  for (size_t i = 0; i < axes.size(); ++i) {
    const int64_t* size = std::get_if<int64_t>(&axes[i]);
    tensor.shape[i] = size == nullptr ? 0 : *size;
    tensor.axis_names[i] = size == nullptr ? std::get<std::string>(axes[i]).c_str() : nullptr;
  }
}

template <typename Specs>
const auto& spec_at(const Specs& specs, size_t index, const char* role) {
  if (index < specs.size()) return specs[index];
  fail(LSTM_EDGE_INPUT,
       "the model has " + std::to_string(specs.size()) + " " + role + ", got index " + std::to_string(index));
}

}  // namespace

extern "C" {

const char* lstm_edge_error(void) { return device::last_error().c_str(); }

const char* lstm_edge_version(void) { return LSTM_EDGE_VERSION; }

lstm_edge_status lstm_edge_open(const char* path, const lstm_edge_options* options, lstm_edge_session** session) {
  return guarded([&] {
    check_pointer(path, "path");
    check_pointer(session, "session");
    const std::string name = path;
    try {
      *session = open(device::read_model_bytes(name), options);
    } catch (const device::Error& error) {
      if (!is_of_file(error.status) || name.empty() || error.message.rfind(name, 0) == 0) throw;
      fail(error.status, name + ": " + error.message);
    }
  });
}

lstm_edge_status lstm_edge_open_bytes(const void* bytes, size_t size, const lstm_edge_options* options,
                                      lstm_edge_session** session) {
  return guarded([&] {
    if (size > 0) check_pointer(bytes, "bytes");
    check_pointer(session, "session");
    *session = open(size == 0 ? std::string() : std::string(static_cast<const char*>(bytes), size), options);
  });
}

void lstm_edge_close(lstm_edge_session* session) { delete session; }

lstm_edge_status lstm_edge_describe(const lstm_edge_session* session, lstm_edge_info* info) {
  return guarded([&] {
    check_pointer(session, "session");
    check_pointer(info, "info");
    const device::Session& opened = *session->session;
    lstm_edge_info known{};
    known.card = opened.has_card ? opened.card.json.c_str() : nullptr;
    known.notes = session->notes.c_str();
    known.kernels = opened.kernels.empty() ? nullptr : opened.kernels.c_str();
    known.onnxruntime_version = opened.graph->version.c_str();
    known.size_bytes = opened.size_bytes;
    known.operators = opened.operators;
    known.verified = opened.verified;
    known.direct = opened.graph->direct;
    device::write_struct(known, kFirstInfo, *info, "lstm_edge_info");
  });
}

lstm_edge_status lstm_edge_tensor_at(const lstm_edge_session* session, lstm_edge_role role, size_t index,
                                     lstm_edge_tensor* tensor) {
  return guarded([&] {
    check_pointer(session, "session");
    check_pointer(tensor, "tensor");
    const device::Contract& contract = session->session->contract;
    const auto show = [&](const std::string& name, const std::string& dtype, const device::Axes& axes) {
      lstm_edge_tensor shown{};
      shown.name = name.c_str();
      shown.dtype = device::dtype_of(dtype);
      describe_axes(axes, name, shown);
      *tensor = shown;
    };
    if (role == LSTM_EDGE_STATES) {
      const auto& spec = spec_at(contract.states, index, "states");
      show(spec.input, spec.dtype, spec.axes);
    } else if (role == LSTM_EDGE_INPUTS || role == LSTM_EDGE_OUTPUTS) {
      const bool inputs = role == LSTM_EDGE_INPUTS;
      const auto& spec = spec_at(inputs ? contract.inputs : contract.outputs, index, inputs ? "inputs" : "outputs");
      show(spec.name, spec.dtype, spec.axes);
    } else {
      fail(LSTM_EDGE_MISUSE, "unknown role " + std::to_string(int(role)) + ": expected a value of lstm_edge_role");
    }
  });
}

lstm_edge_status lstm_edge_check(const lstm_edge_session* session, lstm_edge_check_result* result) {
  return guarded([&] {
    check_pointer(session, "session");
    if (result != nullptr) device::check_struct_size(result->size, kFirstCheck, "lstm_edge_check_result");
    const device::SelfTest found = device::self_test(*session->session);
    if (result != nullptr) {
      const lstm_edge_check_result known = {sizeof(known), found.worst, found.tolerance, found.vectors, found.passed};
      device::write_struct(known, kFirstCheck, *result, "lstm_edge_check_result");
    }
    if (found.passed) return;
    fail(LSTM_EDGE_PARITY, "the self-test failed: " + device::repr(found.output) + " differs by " +
                               device::general(found.worst, 3) + " from the file's golden vectors, at most " +
                               device::general(found.tolerance, 3) + " is allowed");
  });
}

lstm_edge_status lstm_edge_run(const lstm_edge_session* session, const lstm_edge_array* inputs, size_t count,
                               const int64_t* lengths, int32_t end,
                               void (*visit)(void* context, const lstm_edge_array* array), void* context) {
  return guarded([&] {
    check_pointer(session, "session");
    if (count > 0) check_pointer(inputs, "inputs");
    if (visit == nullptr) fail(LSTM_EDGE_MISUSE, "visit is NULL");
    const device::Session& opened = *session->session;
    device::Call call;
    for (size_t i = 0; i < count; ++i) call.inputs.push_back(device::view_of(inputs[i]));
    call.end = end != 0;
    const int64_t rows = opened.rows_of(call.inputs);
    if (lengths != nullptr) call.lengths = device::View{"", LSTM_EDGE_INT64, &rows, 1, lengths};
    std::vector<device::NamedArray> answers = opened.run(call);
    for (size_t i = 0; i < answers.size(); ++i) {
      const size_t outputs = opened.contract.outputs.size();
      device::Array& array = answers[i].array;
      lstm_edge_array shown{};
      if (array.shape.size() > LSTM_EDGE_MOST_AXES) {
        fail(LSTM_EDGE_INPUT, "output " + device::repr(answers[i].name) + " has " + std::to_string(array.shape.size()) +
                                  " axes, the C interface shows at most " + std::to_string(LSTM_EDGE_MOST_AXES));
      }
      shown.name = (i < outputs ? answers[i].name : opened.contract.states[i - outputs].input).c_str();
      shown.dtype = array.dtype;
      shown.rank = int32_t(array.shape.size());
      std::copy(array.shape.begin(), array.shape.end(), shown.shape);
      shown.data = array.data<void>();
      visit(context, &shown);
    }
  });
}

lstm_edge_status lstm_edge_stream_open(lstm_edge_session* session, int64_t batch_size, lstm_edge_stream** stream) {
  return guarded([&] {
    check_pointer(session, "session");
    check_pointer(stream, "stream");
    auto opened = std::make_unique<lstm_edge_stream>();
    opened->stream = device::open_stream(session->session, batch_size);
    *stream = opened.release();
  });
}

void lstm_edge_stream_close(lstm_edge_stream* stream) {
  if (stream != nullptr && !stream->lent) delete stream;
}

lstm_edge_status lstm_edge_stream_push(lstm_edge_stream* stream, const lstm_edge_array* inputs, size_t count,
                                       const lstm_edge_array** outputs) {
  return guarded([&] {
    check_pointer(stream, "stream");
    check_pointer(inputs, "inputs");
    check_pointer(outputs, "outputs");
    *outputs = stream->stream->push(inputs, count);
  });
}

lstm_edge_status lstm_edge_stream_flush(lstm_edge_stream* stream, const lstm_edge_array** outputs) {
  return guarded([&] {
    check_pointer(stream, "stream");
    check_pointer(outputs, "outputs");
    *outputs = stream->stream->flush();
  });
}

lstm_edge_status lstm_edge_stream_reset(lstm_edge_stream* stream) {
  return guarded([&] {
    check_pointer(stream, "stream");
    stream->stream->reset();
  });
}

int64_t lstm_edge_stream_steps(const lstm_edge_stream* stream) {
  return stream == nullptr ? -1 : stream->stream->steps();
}

lstm_edge_status lstm_edge_stream_save(lstm_edge_stream* stream, const void** bytes, size_t* size) {
  return guarded([&] {
    check_pointer(stream, "stream");
    check_pointer(bytes, "bytes");
    check_pointer(size, "size");
    stream->saved = stream->stream->save();
    *bytes = stream->saved.data();
    *size = stream->saved.size();
  });
}

lstm_edge_status lstm_edge_stream_restore(lstm_edge_stream* stream, const void* bytes, size_t size) {
  return guarded([&] {
    check_pointer(stream, "stream");
    if (size > 0) check_pointer(bytes, "bytes");
    stream->stream->restore({static_cast<const char*>(bytes), size});
  });
}

}  // extern "C"
