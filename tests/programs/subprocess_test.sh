# Python's subprocess with sockets that children inherit.
# shellcheck shell=bash disable=SC2154
need "$python=python3" busybox=busybox-static
equal "$(on_net "$python" tests/programs/subprocess_sockets.py)" "all is well"
