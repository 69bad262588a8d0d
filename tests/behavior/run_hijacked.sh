#!/bin/bash
# Runs a behaviour test with its sockets on a rump_server of its own.
set -euo pipefail
exec tools/rump run -- "$1"
