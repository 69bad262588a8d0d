"""Tests of programs that use librumpclient."""

def client_test(name, **kwargs):
    """A cc_test that uses a TestServer, with and without the extension "inline" (NAME_not_inline).

    Args:
      name: of the first one; its source is NAME.cc.
      **kwargs: passed on to both.
    """
    native.cc_test(name = name, srcs = [name + ".cc"], **kwargs)
    native.cc_test(
        name = name + "_not_inline",
        srcs = [name + ".cc"],
        env = {"SERVER_OPTION": "--no-inline"},
        **kwargs
    )
