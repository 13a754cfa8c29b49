"""Answers JSON-RPC, one request a line, to clients in any language with or without ipcio, until Ctrl-C.
usage: python3 jsonrpc_server.py [address]"""
import json
import sys

import ipcio

METHODS = {"add": lambda a, b: a + b, "upper": str.upper}


def answer(line, conn):
    request = json.loads(line)
    method = METHODS.get(request["method"])
    reply = {"jsonrpc": "2.0", "id": request.get("id")}
    if method:
        reply["result"] = method(*request["params"])
    else:
        reply["error"] = {"code": -32601, "message": "Method not found"}
    return json.dumps(reply).encode()


ipcio.serve(sys.argv[1] if len(sys.argv) > 1 else "pipe:///tmp/jsonrpc.sock", answer, framing="line")
