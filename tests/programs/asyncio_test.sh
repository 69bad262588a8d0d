# python's asyncio, hence epoll: two hundred connections open at a time.
# shellcheck shell=bash disable=SC2154
need "$python=python3"
start server "$python" tests/programs/asyncio_echo.py server 7001
client() { on_net "$python" tests/programs/asyncio_echo.py client 7001 "$1"; }
wait_for server client 1
equal "$(client 200)" "200 connections"
