// The commands of lstm-edge-device. Each returns the exit code, or throws Failure.
#pragma once

#include "options.h"

namespace device_program {

int inspect(const Arguments& arguments);
int self_test(const Arguments& arguments);
int bench(const Arguments& arguments);
int run(const Arguments& arguments);

}  // namespace device_program
