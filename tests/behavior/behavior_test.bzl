"""behavior_test: one source, run against the host kernel and hijacked."""

load("//tools:not_sanitized.bzl", "not_sanitized")

def behavior_test(name, srcs, deps = [], data = [], size = "small", sanitized = True, symbols_too = True, stack_too = False):
    """Makes the tests of one program: NAME_native proves it, the others are what it is for.

    NAME_hijacked enters the library by a rewritten libc, NAME_symbols by interposed symbols alone.

    Args:
      name: prefix of the tests.
      srcs: GoogleTest sources.
      deps: further dependencies.
      data: further files that it needs.
      size: of the tests.
      sanitized: False for what cannot run under a sanitizer.
      symbols_too: False for what symbols alone cannot hijack; say why where it is used.
      stack_too: also makes NAME_stack, where the connections inside the server pass its TCP/IP stack.
    """
    binary = name if sanitized else name + "_linked"
    native.cc_binary(
        name = binary,
        testonly = True,
        srcs = srcs,
        linkopts = ["-pthread"],
        deps = deps + [
            ":sockets",
            "@com_google_googletest//:gtest_main",
        ],
    )
    if not sanitized:
        not_sanitized(
            name = name + "_plain",
            testonly = True,
            out = name,
            file = ":" + binary,
        )
    native.sh_test(
        name = name + "_native",
        size = size,
        srcs = ["run_native.sh"],
        args = ["$(location :%s)" % name],
        data = data + [
            ":" + name,
            "//tests:private_network.sh",
        ],
    )
    modes = {"hijacked": ["rewrite"]}
    if symbols_too:
        modes["symbols"] = ["symbols"]
    if stack_too:
        modes["stack"] = ["rewrite", "--no-direct"]
    for mode, words in modes.items():
        native.sh_test(
            name = name + "_" + mode,
            size = size,
            srcs = ["run_hijacked.sh"],
            args = ["$(location :%s)" % name] + words,
            data = data + [
                ":" + name,
                "//hijack:librumphijack.so",
                "//sp_server:rump_server",
                "//tests:private_network.sh",
                "//tools:rump",
            ],
        )
