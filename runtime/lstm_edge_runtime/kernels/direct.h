// Kernels that are run outside of onnxruntime: those that it made for a session's nodes, which live as long as the
// session.
#pragma once

#include "ort_api.h"

extern "C" {

// Told in the thread that creates a session: the name of a node, and its kernel.
using LstmEdgeSeen = void (*)(void* data, const char* node, const void* kernel);
// From now on in this thread; null ends it.
void LstmEdgeWatchKernels(LstmEdgeSeen seen, void* data);

// Runs a kernel on a context whose functions are those of `table`: the ones at kContextGetInput, kContextGetOutput,
// kContextParallelFor, kGetTensorMutableData, kGetShapeReference, 0 (a status from a code and a message) and
// kReleaseStatus. Returns null, or the status that `table` made.
OrtStatus* LstmEdgeRunKernel(const void* kernel, const OrtApi* table, OrtKernelContext* context);
}
