// The environment that an exec gives to its program: with what the program needs to go on with this
// process's connection, and with RUMPHIJACK_FOLLOW=yes with what gets the library into it.
#ifndef HIJACK_EXEC_ENVIRONMENT_H_
#define HIJACK_EXEC_ENVIRONMENT_H_

#include <stddef.h>

#include <string_view>

namespace rump::hijack {

// Names the connection that an exec has left open. Never seen by a program: the library takes it
// out of the environment.
inline constexpr std::string_view kInheritedVariable = "RUMPHIJACK__EXEC=";

// At load: keeps a copy of RUMP_SERVER in `environment`, as the absolute URL `server` (empty:
// none). `follow`: copies of all of the library's variables, which are put back where an exec lacks
// them; false if they are too long for that.
bool ConfigureExec(char** environment, std::string_view server, bool follow);

// Whether environments are to be changed even if there is no connection to hand on: with `follow`,
// or since a RUMP_SERVER that is relative to a directory is to keep its meaning.
bool ChangesExec();

// An environment to come.
class ExecEnvironment {
 public:
  // What the caller has to give room for, on its stack.
  struct Size {
    size_t entries = 0;  // 0: it has to stay as it is, being NULL, unreadable or very long
    size_t preload = 0;  // bytes
  };
  static Size Measure(char* const* environment);

  // Copies `environment`, of that Size, to `entries`. `preload` is for a longer LD_PRELOAD.
  ExecEnvironment(char* const* environment, char** entries, char* preload);

  // Whether the program will have the library, and the same server.
  bool Keeps() const { return preloaded_ && same_server_; }
  // Adds one entry, or nothing if it is nullptr, and ends the environment.
  char* const* Finish(char* entry);

 private:
  char* Look(char* entry, char* preload);

  char** const entries_;
  size_t count_ = 0;
  unsigned present_ = 0;  // which of the library's variables are there
  bool preloaded_ = false;
  bool same_server_ = false;
};

}  // namespace rump::hijack

#endif  // HIJACK_EXEC_ENVIRONMENT_H_
