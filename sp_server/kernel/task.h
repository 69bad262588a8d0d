// Task<T>: a lazily started coroutine that yields one T to whoever awaits it. System calls are
// written as tasks, so that ten thousand blocked calls are ten thousand suspended frames and no
// thread.
#ifndef SP_SERVER_KERNEL_TASK_H_
#define SP_SERVER_KERNEL_TASK_H_

#include <coroutine>
#include <exception>
#include <optional>
#include <utility>

namespace rump {

// Gets the result of a task that runs by itself.
template <typename T>
class TaskSink {
 public:
  virtual void OnDone(T result) = 0;

 protected:
  ~TaskSink() = default;
};

template <typename T>
class [[nodiscard]] Task {
 public:
  struct promise_type;
  using Handle = std::coroutine_handle<promise_type>;

  struct FinalAwaiter {
    bool await_ready() noexcept { return false; }
    std::coroutine_handle<> await_suspend(Handle handle) noexcept {
      promise_type& promise = handle.promise();
      if (promise.continuation) return promise.continuation;
      // A detached task: nobody owns the frame but itself.
      if (promise.sink != nullptr) {
        TaskSink<T>* const sink = promise.sink;
        T value = std::move(*promise.value);
        handle.destroy();
        sink->OnDone(std::move(value));
      }
      return std::noop_coroutine();
    }
    void await_resume() noexcept {}
  };

  struct promise_type {
    Task get_return_object() { return Task(Handle::from_promise(*this)); }
    std::suspend_always initial_suspend() noexcept { return {}; }
    FinalAwaiter final_suspend() noexcept { return {}; }
    void return_value(T result) { value.emplace(std::move(result)); }
    // The server is built around results, not exceptions: one that escapes is a bug.
    void unhandled_exception() noexcept { std::terminate(); }

    std::coroutine_handle<> continuation;
    TaskSink<T>* sink = nullptr;
    std::optional<T> value;
  };

  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Task& operator=(Task&&) = delete;
  ~Task() {
    if (handle_) handle_.destroy();
  }

  bool await_ready() const noexcept { return false; }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> awaiting) noexcept {
    handle_.promise().continuation = awaiting;
    return handle_;
  }
  T await_resume() { return std::move(*handle_.promise().value); }

  // Runs the task by itself, up to its first suspension now; `sink` gets the result, when the
  // task's frame is gone.
  void Start(TaskSink<T>* sink) && {
    Handle handle = std::exchange(handle_, nullptr);
    handle.promise().sink = sink;
    handle.resume();
  }

 private:
  explicit Task(Handle handle) : handle_(handle) {}
  Handle handle_;
};

}  // namespace rump

#endif  // SP_SERVER_KERNEL_TASK_H_
