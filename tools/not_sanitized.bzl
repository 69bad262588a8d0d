"""not_sanitized: a file built without the sanitizer of --config=asan, ubsan or tsan.

For what is loaded into programs without a sanitizer's runtime, and where a test looks at what a
library takes from others.
"""

_OPTIONS = [
    "//command_line_option:copt",
    "//command_line_option:linkopt",
]

def _without_sanitizer_impl(settings, _attr):
    return {
        option: [flag for flag in settings[option] if "sanitize" not in flag]
        for option in _OPTIONS
    }

_without_sanitizer = transition(
    implementation = _without_sanitizer_impl,
    inputs = _OPTIONS,
    outputs = _OPTIONS,
)

def _not_sanitized_impl(ctx):
    ctx.actions.symlink(output = ctx.outputs.out, target_file = ctx.file.file)
    return [DefaultInfo(files = depset([ctx.outputs.out]))]

not_sanitized = rule(
    implementation = _not_sanitized_impl,
    attrs = {
        "file": attr.label(
            mandatory = True,
            allow_single_file = True,
            cfg = _without_sanitizer,
        ),
        "out": attr.output(mandatory = True),
        "_allowlist_function_transition": attr.label(
            default = "@bazel_tools//tools/allowlists/function_transition_allowlist",
        ),
    },
)
