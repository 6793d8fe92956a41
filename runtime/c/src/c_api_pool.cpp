// The C interface of pools.
#include <cstddef>
#include <map>

#include "c_api.h"
#include "pool.h"
#include "versioned.h"

namespace device = lstm_edge::device;
using device::check_pointer;
using device::guarded;

struct lstm_edge_pool {
  std::unique_ptr<device::Pool> pool;
  std::map<int64_t, std::unique_ptr<lstm_edge_stream>> lent;  // the handles of streams by their ids
};

namespace {

// The bytes of the struct in the first version of the header.
constexpr size_t kFirstOptions = offsetof(lstm_edge_pool_options, reserved) + sizeof(lstm_edge_pool_options::reserved);

}  // namespace

extern "C" {

lstm_edge_status lstm_edge_pool_open(lstm_edge_session* session, const lstm_edge_pool_options* options,
                                     lstm_edge_pool** pool) {
  return guarded([&] {
    check_pointer(session, "session");
    check_pointer(pool, "pool");
    lstm_edge_pool_options chosen = LSTM_EDGE_POOL_OPTIONS_INIT;
    if (options != nullptr) {
      chosen = device::read_struct(*options, kFirstOptions, chosen, "lstm_edge_pool_options");
      if (chosen.reserved != 0) {
        device::fail(LSTM_EDGE_MISUSE,
                     "lstm_edge_pool_options.reserved is " + std::to_string(chosen.reserved) + ", expected 0");
      }
    }
    auto opened = std::make_unique<lstm_edge_pool>();
    opened->pool = std::make_unique<device::Pool>(session->session, chosen.capacity, chosen.threads);
    *pool = opened.release();
  });
}

void lstm_edge_pool_close(lstm_edge_pool* pool) { delete pool; }

lstm_edge_status lstm_edge_pool_attach(lstm_edge_pool* pool, const void* snapshot, size_t size, int64_t* id) {
  return guarded([&] {
    check_pointer(pool, "pool");
    check_pointer(id, "id");
    if (size > 0) check_pointer(snapshot, "snapshot");
    if (snapshot == nullptr) *id = pool->pool->attach();
    else *id = pool->pool->attach({static_cast<const char*>(snapshot), size});
  });
}

lstm_edge_status lstm_edge_pool_detach(lstm_edge_pool* pool, int64_t id) {
  return guarded([&] {
    check_pointer(pool, "pool");
    pool->pool->detach(id);
    pool->lent.erase(id);
  });
}

lstm_edge_status lstm_edge_pool_stream(lstm_edge_pool* pool, int64_t id, lstm_edge_stream** stream) {
  return guarded([&] {
    check_pointer(pool, "pool");
    check_pointer(stream, "stream");
    const auto found = pool->lent.find(id);
    if (found != pool->lent.end()) {
      *stream = found->second.get();
      return;
    }
    auto made = std::make_unique<lstm_edge_stream>();
    made->stream = pool->pool->view(id);
    made->lent = true;
    *stream = pool->lent.emplace(id, std::move(made)).first->second.get();
  });
}

lstm_edge_status lstm_edge_pool_push(lstm_edge_pool* pool, lstm_edge_pool_piece* pieces, size_t count) {
  return guarded([&] {
    check_pointer(pool, "pool");
    if (count > 0) check_pointer(pieces, "pieces");
    pool->pool->push(pieces, count);
  });
}

}  // extern "C"
