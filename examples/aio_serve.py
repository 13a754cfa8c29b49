"""Greets every client, many at once, until Ctrl-C; while one handler waits, the others go on.
usage: python3 aio_serve.py [address]"""
import asyncio
import sys

from ipcio import aio


async def greet(request, conn):
    await asyncio.sleep(0.1)  # for whatever takes its time
    return b"hello " + request


asyncio.run(aio.serve(sys.argv[1] if len(sys.argv) > 1 else "pipe://greeter", greet))
