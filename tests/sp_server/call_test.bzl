"""Tests of system calls, which must come to the same whether calls carry memory or not."""

def call_test(name, **kwargs):
    """A cc_test of TestPrograms, plain and with the extension "inline" (NAME_inline).

    Args:
      name: of the plain test; its source is NAME.cc.
      **kwargs: passed on to both.
    """
    native.cc_test(name = name, srcs = [name + ".cc"], **kwargs)
    native.cc_test(
        name = name + "_inline",
        srcs = [name + ".cc"],
        env = {"CARRY_MEMORY": "1"},
        **kwargs
    )
