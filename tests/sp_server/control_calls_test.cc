// Looking at a server: its reports, and the trace that is switched while it runs.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "protocol/syscalls.h"
#include "tests/sp_server/raw_client.h"
#include "tests/sp_server/server_thread.h"

namespace rump {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::MatchesRegex;

class ControlCallsTest : public testing::Test {
 protected:
  ControlCallsTest() {
    char folder[] = "/tmp/rhXXXXXX";
    folder_ = mkdtemp(folder);
    trace_ = folder_ + "/trace";
    EXPECT_TRUE(client_.Guest("looker"));
  }
  ~ControlCallsTest() override {
    unlink(trace_.c_str());
    rmdir(folder_.c_str());
  }

  std::string Report(QueryKind kind) {
    std::string memory(64 * 1024, '\0');
    const uint64_t reqno =
        client_.SendCall(kSysQuery, {static_cast<uint64_t>(kind), 0, memory.size(), 0});
    const SyscallResultPayload result = client_.Finish(reqno, &memory);
    EXPECT_EQ(result.error, 0);
    return memory.substr(0, result.retval[0]);
  }
  int Trace(std::string path) {
    const uint64_t size = path.size();
    return client_.Finish(client_.SendCall(kSysTrace, {0, size}), &path).error;
  }
  std::string Traced() const {
    std::ifstream file(trace_);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  std::string folder_;
  std::string trace_;
  ServerThread server_;
  RawClient client_{server_.path()};
};

TEST_F(ControlCallsTest, StatisticsCountWhatHappened) {
  std::string memory(64, '\0');
  {
    RawClient other(server_.path());
    ASSERT_TRUE(other.Guest());
    ASSERT_EQ(other.Finish(other.SendCall(SYS_pipe, {0}), &memory).error, 0);
    ASSERT_EQ(other.Finish(other.SendCall(SYS_write, {1, 0, 4}), &memory).error, 0);
    ASSERT_EQ(other.CallResult(SYS_close, {77}).error, EBADF);
    ASSERT_EQ(other.CallResult(9999, {}).error, ENOSYS);
    other.Send({.reqno = 5, .type = FrameType::kPrefork});
    ASSERT_TRUE(other.Receive().has_value());
    other.Send({.reqno = 6, .type = static_cast<FrameType>(99)});
    ASSERT_TRUE(other.Receive().has_value());
    const std::string report = Report(QueryKind::kStatisticsJson);
    EXPECT_THAT(report, AllOf(HasSubstr("\"clients\":{\"now\":2,\"ever\":2}"),
                              HasSubstr("\"preforks\":{\"now\":1,\"ever\":1}"),
                              HasSubstr("\"processes\":3"), HasSubstr("\"copyins\":1"),
                              HasSubstr("\"copyouts\":1"), HasSubstr("\"calls\":5"),
                              HasSubstr("\"failed\":2"), HasSubstr("\"MALFORMED_REQUEST\":1")));
    EXPECT_THAT(report, AllOf(HasSubstr(R"({"number":3,"name":"close","calls":1,"failed":1})"),
                              HasSubstr(R"({"number":1,"name":"write","calls":1,"failed":0})"),
                              HasSubstr(R"({"number":null,"name":null,"calls":1,"failed":1})")));
    shutdown(other.fd(), SHUT_WR);
    EXPECT_TRUE(other.AtEnd());
  }
  const std::string report = Report(QueryKind::kStatistics);
  EXPECT_THAT(report, AllOf(HasSubstr("clients    1 now, 2 ever\n"),
                            HasSubstr("preforks   0 now, 1 ever\n"),
                            HasSubstr("errors     1 MALFORMED_REQUEST\n"),
                            HasSubstr("           1            1  close\n")));
}

TEST_F(ControlCallsTest, ProcessesAsJson) {
  EXPECT_EQ(Report(QueryKind::kProcessesJson), "[]\n") << "the one that asks is left out";
  RawClient other(server_.path());
  ASSERT_TRUE(other.Guest("a\"b\x01\xff"));
  EXPECT_THAT(Report(QueryKind::kProcessesJson),
              MatchesRegex("\\[\\{\"pid\":[0-9]+,\"ppid\":1,\"command\":\"a\\\\\"b\\\\u0001"
                           "\\\\u00ff\",\"fds\":0,\"calls\":0,\"bytes\":[0-9]+,"
                           "\"client\":\"unix pid [0-9]+ uid [0-9]+\"\\}\\]\n"));
}

TEST_F(ControlCallsTest, UnknownReportIsEinval) {
  EXPECT_EQ(client_.CallResult(kSysQuery, {99, 0, 100, 0}).error, EINVAL);
}

TEST_F(ControlCallsTest, TraceIsSwitchedOnAndOff) {
  ASSERT_EQ(client_.CallResult(SYS_getppid, {}).error, 0);
  ASSERT_EQ(Trace(trace_), 0);
  std::string memory(64, '\0');
  ASSERT_EQ(client_.Finish(client_.SendCall(SYS_pipe, {0}), &memory).error, 0);
  memory.replace(8, 5, "hello");
  ASSERT_EQ(client_.Finish(client_.SendCall(SYS_write, {1, 8, 5}), &memory).error, 0);
  ASSERT_EQ(client_.Finish(client_.SendCall(SYS_read, {0, 16, 40}), &memory).retval[0], 5U);
  ASSERT_EQ(client_.CallResult(SYS_close, {0}).error, 0);
  ASSERT_EQ(client_.Finish(client_.SendCall(SYS_write, {1, 8, 5}), &memory).error, EPIPE);
  // What the trace has gathered is written before the call that ends it answers.
  ASSERT_EQ(Trace(""), 0);
  ASSERT_EQ(client_.CallResult(SYS_getpid, {}).error, 0);
  const std::string start = "[0-9][0-9]:[0-9][0-9]:[0-9][0-9]\\.[0-9]+ \\[[0-9]+\\] ";
  const std::string end = " <[0-9.]+>\n";
  const std::string traced = Traced();
  EXPECT_THAT(traced, MatchesRegex(start + "pipe\\(\\[0, 1\\]\\) = 0" + end +        //
                                   start + "write\\(1, \"hello\", 5\\) = 5" + end +  //
                                   start + "read\\(0, \"hello\", 40\\) = 5" + end +  //
                                   start + "close\\(0\\) = 0" + end +                //
                                   start + "--- SIGPIPE ---\n" +                     //
                                   start +
                                   "write\\(1, 0x8, 5\\) = -1 EPIPE "  //
                                   "\\(Broken pipe\\)" +
                                   end + "(" + start + "trace\\([^\n]*\n)?"));
}

TEST_F(ControlCallsTest, TraceGoesBehindWhatTheFileHolds) {
  std::ofstream(trace_) << "before\n";
  ASSERT_EQ(Trace(trace_), 0);
  ASSERT_EQ(client_.CallResult(SYS_getpid, {}).error, 0);
  ASSERT_EQ(Trace(""), 0);
  ASSERT_EQ(client_.CallResult(SYS_getpid, {}).error, 0);
  EXPECT_THAT(Traced(), AllOf(testing::StartsWith("before\n"), HasSubstr("getpid() = ")));
}

TEST_F(ControlCallsTest, CancelReachesATracedCall) {
  ASSERT_EQ(Trace(trace_), 0);
  std::string memory(64, '\0');
  ASSERT_EQ(client_.Finish(client_.SendCall(SYS_pipe, {0}), &memory).error, 0);
  const uint64_t read = client_.SendCall(SYS_read, {0, 0, 8});
  client_.Send({.type = FrameType::kCancel}, {reinterpret_cast<const char*>(&read), sizeof read});
  EXPECT_EQ(client_.Finish(read, &memory).error, EINTR);
  const uint64_t write = client_.SendCall(SYS_write, {1, 0, 8});
  ASSERT_TRUE(client_.Receive().has_value());
  client_.Send({.type = FrameType::kCancel}, {reinterpret_cast<const char*>(&write), sizeof write});
  EXPECT_EQ(client_.Finish(write, &memory).error, EINTR);
}

TEST_F(ControlCallsTest, TraceNeedsAFileThatCanBeWritten) {
  EXPECT_EQ(Trace("relative"), EINVAL);
  EXPECT_EQ(Trace(std::string("/tmp/a\0b", 8)), EINVAL);
  EXPECT_EQ(Trace("/nonexistent/trace"), ENOENT);
  EXPECT_EQ(Trace("/tmp"), EISDIR);
  EXPECT_EQ(Trace(std::string(5000, '/')), ENAMETOOLONG);
  EXPECT_EQ(client_.CallResult(SYS_getpid, {}).error, 0);
}

}  // namespace
}  // namespace rump
