"""program_test: real programs, run against the host kernel and hijacked from one script."""

def program_test(name, data = [], native_too = True, size = "medium", tags = []):
    """Makes NAME_native, which proves the test, and NAME_hijacked, which the test is for.

    Args:
      name: prefix of both tests; the script is NAME.sh, and harness.sh says what it can use.
      data: further files that it needs.
      native_too: False for what has a meaning only on a rump_server.
      size: of the tests.
      tags: further tags of both.
    """
    script = name + ".sh"
    for mode in ["native", "hijacked"] if native_too else ["hijacked"]:
        native.sh_test(
            name = name + "_" + mode,
            size = size,
            srcs = ["harness.sh"],
            args = [
                mode,
                "$(location %s)" % script,
            ],
            data = data + [
                script,
                "//tests:private_network.sh",
            ] + ([
                "//hijack:librumphijack.so",
                "//sp_server:rump_server",
                "//tools:rump",
            ] if mode == "hijacked" else []),
            tags = tags,
        )
