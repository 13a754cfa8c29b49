"""Lets itself be greeted, by a greeter in whatever language.
usage: python3 greeter_client.py [address]"""
import sys

import ipcio

address = sys.argv[1] if len(sys.argv) > 1 else "pipe://greeter"
with ipcio.connect(address, timeout=10) as conn:  # waits for the server
    for name in "world", "Zoë":
        print(conn.call(name.encode(), timeout=1).decode())  # write, then read, one deadline for both
