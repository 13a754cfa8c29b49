"""Greets every client, many at once, until Ctrl-C.
usage: python3 serve.py [address]"""
import sys

import ipcio

ipcio.serve(sys.argv[1] if len(sys.argv) > 1 else "pipe://greeter", lambda request, conn: b"hello " + request)
