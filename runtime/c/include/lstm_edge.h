/* lstm-edge without Python: open a model file, check it, run it, and stream through it, one stream or many at once.
 *
 * Every function returns a status; on any other than LSTM_EDGE_OK, lstm_edge_error() has a sentence for this thread.
 * No function throws, and a function that fails changes nothing. Handles are opaque. A session may be used by several
 * threads at once; a stream or a pool by one thread at a time. All times are counted in steps, all sizes in elements
 * unless a name says bytes. Arrays are C-contiguous, in the byte order of the machine (little endian).
 *
 * Ownership: what the caller passes is read during the call only. Pointers that the library returns belong to the
 * handle that returned them; each function says how long they are valid.
 */
#ifndef LSTM_EDGE_H
#define LSTM_EDGE_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define LSTM_EDGE_API __attribute__((visibility("default")))
#else
#define LSTM_EDGE_API
#endif

/* Any number may be in a field of an enum, the library checks it; C++ allows that where the type is fixed. */
#ifdef __cplusplus
#define LSTM_EDGE_ENUM : int
#else
#define LSTM_EDGE_ENUM
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define LSTM_EDGE_MOST_AXES 8

/* Python's classes of errors, one for one; docs/c.md has the table. */
typedef enum lstm_edge_status LSTM_EDGE_ENUM {
  LSTM_EDGE_OK = 0,
  LSTM_EDGE_ARTIFACT = 1,  /* no such file, not a model, or onnxruntime cannot read it */
  LSTM_EDGE_INTEGRITY = 2, /* the bytes do not agree with the integrity trailer */
  LSTM_EDGE_CARD = 3,      /* the model card is damaged, or contradicts the graph */
  LSTM_EDGE_INPUT = 4,     /* a wrong name, dtype, shape, length or value */
  LSTM_EDGE_PROVIDER = 5,  /* onnxruntime, its provider or the kernels are not as requested */
  LSTM_EDGE_STREAMING = 6, /* the model cannot be streamed, or the stream has ended */
  LSTM_EDGE_PARITY = 7,    /* the self-test failed: other answers than those of the file */
  LSTM_EDGE_MEMORY = 8,    /* no memory */
  LSTM_EDGE_MISUSE = 9     /* a null pointer, a struct of an impossible size, a field that is not known */
} lstm_edge_status;

typedef enum lstm_edge_dtype LSTM_EDGE_ENUM {
  LSTM_EDGE_FLOAT32 = 1, /* ONNX's numbers of element types */
  LSTM_EDGE_UINT8 = 2,
  LSTM_EDGE_INT8 = 3,
  LSTM_EDGE_UINT16 = 4,
  LSTM_EDGE_INT16 = 5,
  LSTM_EDGE_INT32 = 6,
  LSTM_EDGE_INT64 = 7,
  LSTM_EDGE_BOOL = 9,
  LSTM_EDGE_FLOAT16 = 10,
  LSTM_EDGE_FLOAT64 = 11,
  LSTM_EDGE_UINT32 = 12,
  LSTM_EDGE_UINT64 = 13
} lstm_edge_dtype;

typedef enum lstm_edge_role LSTM_EDGE_ENUM {
  LSTM_EDGE_INPUTS = 0,  /* what push and run take; states, lengths and the end of a sequence are separate */
  LSTM_EDGE_OUTPUTS = 1, /* what they return */
  LSTM_EDGE_STATES = 2
} lstm_edge_role;

typedef enum lstm_edge_kernels LSTM_EDGE_ENUM {
  LSTM_EDGE_KERNELS_AUTO = 0,     /* the fused kernels, which this library contains */
  LSTM_EDGE_KERNELS_REQUIRED = 1, /* an error if they cannot be used */
  LSTM_EDGE_KERNELS_OFF = 2       /* the function bodies in the file */
} lstm_edge_kernels;

typedef struct lstm_edge_session lstm_edge_session;
typedef struct lstm_edge_stream lstm_edge_stream;
typedef struct lstm_edge_pool lstm_edge_pool;

/* Structs that begin with `size` grow in later versions of this header by fields at their end; size says which version
 * the caller was compiled with. A library that is newer uses its defaults for the fields that the caller lacks, and
 * fills those that the caller has. A library that is older fills what it does not know with zeros; it accepts options
 * only if all bytes that it does not know are zero (LSTM_EDGE_MISUSE otherwise). A size below that of the first
 * version, or above 1,024 bytes, is LSTM_EDGE_MISUSE.
 */

/* Begin with LSTM_EDGE_OPTIONS_INIT. */
typedef struct lstm_edge_options {
  size_t size;
  /* Path of libonnxruntime.so; NULL: $LSTM_EDGE_ONNXRUNTIME, else libonnxruntime.so.1. The first open of a process sets
   * ORT_DISABLE_TELEMETRY=1 with setenv, unless it is set: no other thread may read the environment meanwhile. */
  const char* onnxruntime;
  lstm_edge_kernels kernels;
  int32_t threads; /* threads within one operator; they never spin */
  /* nonzero: mlockall(MCL_CURRENT | MCL_FUTURE) after the file is open; from then on glibc's malloc keeps what the
   * process frees (mallopt), so that onnxruntime does not give memory back and take it again in a push. */
  int32_t lock_memory;
  int32_t reserved; /* 0 */
} lstm_edge_options;
#define LSTM_EDGE_OPTIONS_INIT {sizeof(lstm_edge_options), NULL, LSTM_EDGE_KERNELS_AUTO, 1, 0, 0}

/* An array that is lent for a call, or that the library shows. `name` may be NULL where there is only one. */
typedef struct lstm_edge_array {
  const char* name;
  lstm_edge_dtype dtype;
  int32_t rank;
  int64_t shape[LSTM_EDGE_MOST_AXES];
  void* data;
} lstm_edge_array;

/* A tensor of the model. axis_names[i] is NULL where the axis has the fixed size shape[i]; shape[i] is then above 0. */
typedef struct lstm_edge_tensor {
  const char* name;
  lstm_edge_dtype dtype;
  int32_t rank;
  int64_t shape[LSTM_EDGE_MOST_AXES];
  const char* axis_names[LSTM_EDGE_MOST_AXES];
} lstm_edge_tensor;

/* Facts about an open file; all pointers are valid until the session is closed. */
typedef struct lstm_edge_info {
  size_t size;                     /* sizeof(lstm_edge_info) of the caller, set before the call */
  const char* card;                /* the model card as JSON text; NULL without one */
  const char* notes;               /* sentences about what could not be verified, one a line; "" if none */
  const char* kernels;             /* instruction set, such as "avx512vnni"; NULL if function bodies run */
  const char* onnxruntime_version; /* such as "1.23.2" */
  int64_t size_bytes;              /* of the file */
  int64_t operators;               /* calls of lstm_edge operators */
  int32_t verified;                /* nonzero: the bytes agree with the trailer; 0: the file has none */
  int32_t direct;                  /* nonzero: pushes run on the kernels alone, without onnxruntime (docs/c.md) */
} lstm_edge_info;

/* The result of a self-test: worst and tolerance are those of the output whose difference is the largest share of its
 * tolerance. */
typedef struct lstm_edge_check_result {
  size_t size;
  double worst;     /* greatest absolute difference; infinite if shapes differ or a value is NaN */
  double tolerance; /* of the file for this output, for kernels or for bodies */
  int32_t vectors;
  int32_t passed;
} lstm_edge_check_result;

/* The sentence of the last failure in this thread; "" if none. Valid until the next call in this thread. */
LSTM_EDGE_API const char* lstm_edge_error(void);
/* Version of this library, such as "0.9.0". */
LSTM_EDGE_API const char* lstm_edge_version(void);

/* Open and check a file: trailer, protobuf, functions, card, graph. `options` may be NULL. JSON of a thousand levels,
 * as a damaged file may hold, takes up to 0.5 MB of the calling thread's stack. */
LSTM_EDGE_API lstm_edge_status lstm_edge_open(const char* path, const lstm_edge_options* options,
                                              lstm_edge_session** session);
/* The same from memory, which is copied where it is still needed after the call. */
LSTM_EDGE_API lstm_edge_status lstm_edge_open_bytes(const void* bytes, size_t size, const lstm_edge_options* options,
                                                    lstm_edge_session** session);
/* Streams and pools of the session stay valid; NULL is allowed. */
LSTM_EDGE_API void lstm_edge_close(lstm_edge_session* session);
LSTM_EDGE_API lstm_edge_status lstm_edge_describe(const lstm_edge_session* session, lstm_edge_info* info);
/* The index-th tensor of a role; LSTM_EDGE_INPUT past the last one. */
LSTM_EDGE_API lstm_edge_status lstm_edge_tensor_at(const lstm_edge_session* session, lstm_edge_role role, size_t index,
                                                   lstm_edge_tensor* tensor);
/* Run the golden vectors of the file. LSTM_EDGE_PARITY if the answers differ; `result` (may be NULL) is filled then. */
LSTM_EDGE_API lstm_edge_status lstm_edge_check(const lstm_edge_session* session, lstm_edge_check_result* result);

/* Run the whole sequences of a batch once, without a stream.
 *
 * inputs: `count` arrays by name, with all axes; states may be among them (all of them or none; zeros if none).
 * lengths: int64 [batch], or NULL: all steps are valid. end: nonzero if the sequence ends with this call.
 * visit: called once for each output and for each new state (by the name of the state's input), with arrays that are
 *   valid during the call only.
 */
LSTM_EDGE_API lstm_edge_status lstm_edge_run(const lstm_edge_session* session, const lstm_edge_array* inputs,
                                             size_t count, const int64_t* lengths, int32_t end,
                                             void (*visit)(void* context, const lstm_edge_array* array), void* context);

/* Open a stream of `batch_size` rows at the initial state. */
LSTM_EDGE_API lstm_edge_status lstm_edge_stream_open(lstm_edge_session* session, int64_t batch_size,
                                                     lstm_edge_stream** stream);
LSTM_EDGE_API void lstm_edge_stream_close(lstm_edge_stream* stream);
/* Push one piece: frames (no time axis) or chunks, as Stream.push of Python takes them.
 *
 * outputs: receives a pointer to as many arrays as the model has outputs, in their order. They belong to the stream and
 *   are valid until its next call. After the first push of a shape this function allocates nothing, takes no lock and
 *   does no system call of its own. onnxruntime allocates in each run, which takes no system call either where
 *   lock_memory is set (docs/c.md). A model that does not give one output step for each input step is called with
 *   several numbers of steps, and each of them is new once: of such a model, the first `first` + `every` pushes of a
 *   shape may allocate (card.streaming in lstm_edge_info.card).
 */
LSTM_EDGE_API lstm_edge_status lstm_edge_stream_push(lstm_edge_stream* stream, const lstm_edge_array* inputs,
                                                     size_t count, const lstm_edge_array** outputs);
/* End the sequence: the outputs that are left. Another push is an error until the stream is reset. */
LSTM_EDGE_API lstm_edge_status lstm_edge_stream_flush(lstm_edge_stream* stream, const lstm_edge_array** outputs);
/* Back to the initial state and step 0. */
LSTM_EDGE_API lstm_edge_status lstm_edge_stream_reset(lstm_edge_stream* stream);
/* Steps since the start or the last reset. */
LSTM_EDGE_API int64_t lstm_edge_stream_steps(const lstm_edge_stream* stream);
/* Everything that the stream knows, as the bytes of an .npz archive: Python's Stream.snapshot, saved by numpy.savez.
 * *bytes belongs to the stream and is valid until its next call. */
LSTM_EDGE_API lstm_edge_status lstm_edge_stream_save(lstm_edge_stream* stream, const void** bytes, size_t* size);
/* Continue from such bytes (of C or of Python); nothing changes if they are refused. */
LSTM_EDGE_API lstm_edge_status lstm_edge_stream_restore(lstm_edge_stream* stream, const void* bytes, size_t size);

/* Begin with LSTM_EDGE_POOL_OPTIONS_INIT, as with lstm_edge_options. */
typedef struct lstm_edge_pool_options {
  size_t size;
  int64_t capacity; /* how many streams may be attached at once */
  int32_t threads;  /* threads that share a push, where that pays; they do not compute within an operator */
  int32_t reserved; /* 0 */
} lstm_edge_pool_options;
#define LSTM_EDGE_POOL_OPTIONS_INIT {sizeof(lstm_edge_pool_options), 256, 1, 0}

/* A piece of one stream in a push, and what became of it. The library writes the last three, if the push is not refused
 * as a whole; they are valid until the next call of the pool. */
typedef struct lstm_edge_pool_piece {
  int64_t id;
  const lstm_edge_array* inputs; /* as lstm_edge_stream_push takes them */
  size_t count;
  const lstm_edge_array* outputs; /* as lstm_edge_stream_push gives them; NULL if the stream was refused */
  lstm_edge_status status;        /* LSTM_EDGE_OK, or why the stream was refused: it is as it was before the push */
  const char* error;              /* the sentence, with "stream ID: " before it; "" if there is an answer */
} lstm_edge_pool_piece;

/* Open a pool without streams: many live streams of one model, which come and go and share the calls of the graph.
 * docs/pool.md has its rules. LSTM_EDGE_STREAMING if the model cannot be streamed, or if the rows of a call depend on
 * each other. `options` may be NULL. */
LSTM_EDGE_API lstm_edge_status lstm_edge_pool_open(lstm_edge_session* session, const lstm_edge_pool_options* options,
                                                   lstm_edge_pool** pool);
/* Close the pool and its streams; NULL is allowed. */
LSTM_EDGE_API void lstm_edge_pool_close(lstm_edge_pool* pool);
/* Add a stream of one row and return its id: 1, 2, and so on; none is used twice. It begins at the initial state
 * (`snapshot` NULL), or goes on from the bytes that lstm_edge_stream_save gave, with their steps. */
LSTM_EDGE_API lstm_edge_status lstm_edge_pool_attach(lstm_edge_pool* pool, const void* snapshot, size_t size,
                                                     int64_t* id);
/* Remove a stream. Save it before, to go on elsewhere. */
LSTM_EDGE_API lstm_edge_status lstm_edge_pool_detach(lstm_edge_pool* pool, int64_t id);
/* The stream of an id as a handle for all functions of streams. It belongs to the pool and is valid until the stream is
 * detached; until then lstm_edge_stream_close does nothing with it. A push of it is a push of the pool with one piece,
 * and its answer is valid until the next call of the pool. */
LSTM_EDGE_API lstm_edge_status lstm_edge_pool_stream(lstm_edge_pool* pool, int64_t id, lstm_edge_stream** stream);
/* Push pieces of some streams, at most one of each, in any order.
 *
 * Another id than those of attached streams, or one that is given twice, is LSTM_EDGE_INPUT, and nothing changes.
 * Otherwise the status is LSTM_EDGE_OK, and each piece has an answer or a refusal. After the first push of a shape and
 * a number of streams this function allocates nothing, takes no lock and does no system call, but where
 * lstm_edge_stream_push does, for a refusal, and to hand work over to other threads. */
LSTM_EDGE_API lstm_edge_status lstm_edge_pool_push(lstm_edge_pool* pool, lstm_edge_pool_piece* pieces, size_t count);

#ifdef __cplusplus
}
#endif

#endif
