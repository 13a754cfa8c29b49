"""Answers one client's questions about a text, by the AutoIt names. file_client asks.
usage: python3 file_server.py [name or address]"""
import sys

import ipcio
from count import count

ANSWERS = {b"count": count, b"copy": lambda text: text}

fd = ipcio.InitConnection(ipcio.cNamedPipe, sys.argv[1] if len(sys.argv) > 1 else "files")
ipcio.StartConnection(fd)  # waits for a client
try:
    while True:
        question, _, text = ipcio.ReadData(fd).partition(b"\n")
        ipcio.WriteData(fd, ANSWERS[question](text))
except ipcio.Closed:  # the client has gone
    pass
ipcio.StopConnection(fd)  # this client; StartConnection would wait for the next
ipcio.EndConnection(fd)
