"""Greets one client. serve.py greets them all.
usage: python3 greeter_server.py [address]"""
import sys

import ipcio

address = sys.argv[1] if len(sys.argv) > 1 else "pipe://greeter"
with ipcio.listen(address) as server:
    print("waiting at", server.address)
    with server.accept(timeout=60) as conn:
        for request in conn:  # ends when the client has closed
            conn.write(b"hello " + request)
