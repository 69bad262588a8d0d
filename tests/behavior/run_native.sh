#!/bin/bash
# Runs a behaviour test on the host kernel.
set -euo pipefail
exec "$1"
