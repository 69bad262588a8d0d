"""behavior_test: one source, run against the host kernel and hijacked."""

def behavior_test(name, srcs, deps = [], size = "small"):
    """Makes NAME_native, which proves the test, and NAME_hijacked, which the test is for.

    Args:
      name: prefix of both tests.
      srcs: GoogleTest sources.
      deps: further dependencies.
      size: of the tests.
    """
    native.cc_binary(
        name = name,
        testonly = True,
        srcs = srcs,
        linkopts = ["-pthread"],
        deps = deps + [
            ":sockets",
            "@com_google_googletest//:gtest_main",
        ],
    )
    native.sh_test(
        name = name + "_native",
        size = size,
        srcs = ["run_native.sh"],
        args = ["$(location :%s)" % name],
        data = [
            ":" + name,
            "//tests:private_network.sh",
        ],
    )
    native.sh_test(
        name = name + "_hijacked",
        size = size,
        srcs = ["run_hijacked.sh"],
        args = ["$(location :%s)" % name],
        data = [
            ":" + name,
            "//hijack:librumphijack.so",
            "//sp_server:rump_server",
            "//tests:private_network.sh",
            "//tools:rump",
        ],
    )
