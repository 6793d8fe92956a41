// What the files of the C interface share: handles, statuses, and the sentence of the last failure. No exception leaves
// it.
#pragma once

#include <memory>
#include <new>
#include <string>

#include "error.h"
#include "lstm_edge.h"
#include "session.h"
#include "stream.h"

struct lstm_edge_session {
  std::shared_ptr<const lstm_edge::device::Session> session;
  std::string notes;
};

struct lstm_edge_stream {
  std::unique_ptr<lstm_edge::device::Stream> stream;
  std::string saved;
  bool lent = false;  // by a pool, which closes it
};

namespace lstm_edge::device {

// Keeps the sentence for lstm_edge_error; returns the status.
lstm_edge_status refuse_call(lstm_edge_status status, const char* message) noexcept;

// Runs `work`; an exception becomes a status and a sentence.
template <typename Work>
lstm_edge_status guarded(const Work& work) noexcept {
  try {
    work();
    return LSTM_EDGE_OK;
  } catch (const Error& error) {
    return refuse_call(error.status, error.message.c_str());
  } catch (const std::bad_alloc&) {
    return refuse_call(LSTM_EDGE_MEMORY, "not enough memory");
  } catch (const std::exception& error) {
    return refuse_call(LSTM_EDGE_MISUSE, error.what());
  } catch (...) {
    return refuse_call(LSTM_EDGE_MISUSE, "an unknown error");
  }
}

void check_pointer(const void* pointer, const char* name);

}  // namespace lstm_edge::device
