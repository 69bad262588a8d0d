// Elapsed time for benchmarks.
#ifndef TESTS_BENCH_STOPWATCH_H_
#define TESTS_BENCH_STOPWATCH_H_

#include <chrono>

namespace rump {

class Stopwatch {
 public:
  // Microseconds since construction.
  double Micros() const {
    return std::chrono::duration<double, std::micro>(Clock::now() - start_).count();
  }

 private:
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start_ = Clock::now();
};

}  // namespace rump

#endif  // TESTS_BENCH_STOPWATCH_H_
