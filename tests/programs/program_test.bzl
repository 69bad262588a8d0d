"""program_test: real programs, run against the host kernel and hijacked from one script."""

def program_test(name, script = None, data = [], native_too = True, symbols_too = True, audited_too = False, modes = None, size = "medium", server_options = [], tags = []):
    """Makes the tests of one script: NAME_native proves it, the others are what it is for.

    NAME_hijacked enters the library by a rewritten libc, NAME_symbols by interposed symbols alone.

    Args:
      name: prefix of the tests.
      script: what they run, NAME.sh if not said; harness.sh says what it can use.
      data: further files that it needs.
      native_too: False for what has a meaning only on a rump_server.
      symbols_too: False for what symbols alone cannot hijack; say why where it is used.
      audited_too: True for what runs once more with its system calls traced, as NAME_audited.
      modes: the only ones, in place of what these say.
      size: of the tests.
      server_options: further options of the rump_server.
      tags: further tags of all.
    """
    script = script or name + ".sh"
    if modes == None:
        modes = ["hijacked"]
        if native_too:
            modes.append("native")
        if audited_too:
            modes.append("audited")
        if symbols_too:
            modes.append("symbols")
    for mode in modes:
        native.sh_test(
            name = name + "_" + mode,
            size = size,
            srcs = ["harness.sh"],
            args = [
                mode,
                "$(location %s)" % script,
            ] + server_options,
            data = data + [
                script,
                "//tests:private_network.sh",
            ] + ([
                "//hijack:librumphijack.so",
                "//sp_server:rump_server",
                "//tools:rump",
            ] if mode != "native" else []),
            tags = tags,
        )
