"""Asks a JSON-RPC server, one request a line, whatever it is written in.
usage: python3 jsonrpc_client.py [address]"""
import json
import sys

import ipcio

address = sys.argv[1] if len(sys.argv) > 1 else "pipe:///tmp/jsonrpc.sock"
with ipcio.connect(address, timeout=10, framing="line") as conn:
    for number, (method, *params) in enumerate([("add", 2, 3), ("upper", "zoë")], 1):
        request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        print(json.loads(conn.call(json.dumps(request).encode(), timeout=10))["result"])
