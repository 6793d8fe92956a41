// lstm-edge-device: inspect, check, measure and run a model file without Python.
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>

#include "commands.h"
#include "text.h"

#ifdef __GLIBCXX__
// The one of the C++ library prints the name of the exception, and brings 50 KB to read such names.
void __gnu_cxx::__verbose_terminate_handler() { std::abort(); }
#endif

namespace device_program {
namespace {

int dispatch(const Arguments& arguments) {
  if (arguments.command == "inspect") return inspect(arguments);
  if (arguments.command == "check") return self_test(arguments);
  if (arguments.command == "bench") return bench(arguments);
  if (arguments.command == "run") return run(arguments);
  print(arguments.show);
  return arguments.exit_code;
}

int guarded(int count, char** words) {
  try {
    Arguments arguments = parse_arguments(count, words);
    if (!arguments.onnxruntime.empty()) arguments.session.onnxruntime = arguments.onnxruntime.c_str();
    return dispatch(arguments);
  } catch (const Failure& failure) {
    print_error(failure.sentence);
    return failure.exit_code;
  } catch (const std::bad_alloc&) {
    print_error("there is not enough memory");
    return 2;
  } catch (const std::exception& error) {
    print_error(std::string("unexpected ") + error.what() + ". This is a defect of lstm-edge");
    return 2;
  }
}

}  // namespace
}  // namespace device_program

int main(int count, char** words) {
  std::signal(SIGPIPE, SIG_IGN);
  const int code = device_program::guarded(count, words);
  if (std::fflush(stdout) == 0) return code;
  // A reader that closed the pipe (`| head`) is not an error; a full disk is.
  if (errno == EPIPE) return code;
  device_program::print_error("standard output cannot be written");
  return 2;
}
