"""Tests of system calls, which must come to the same whether calls carry memory or not."""

def call_test(name, plain_only = [], **kwargs):
    """A cc_test of TestPrograms, plain and with the extension "inline" (NAME_inline).

    Args:
      name: of the plain test; its source is NAME.cc.
      plain_only: test cases that are about the frames of the plain protocol.
      **kwargs: passed on to both.
    """
    native.cc_test(name = name, srcs = [name + ".cc"], **kwargs)
    native.cc_test(
        name = name + "_inline",
        srcs = [name + ".cc"],
        args = ["--gtest_filter=-" + ":".join(plain_only)],
        env = {"CARRY_MEMORY": "1"},
        **kwargs
    )
