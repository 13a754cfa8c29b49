"""Lets two names be greeted at once, by a server in whatever language that takes many clients.
usage: python3 aio_client.py [address]"""
import asyncio
import sys

from ipcio import aio

address = sys.argv[1] if len(sys.argv) > 1 else "pipe://greeter"


async def greeting(name):
    async with aio.connect(address, timeout=10) as conn:  # waits for the server
        return (await conn.call(name.encode(), timeout=10)).decode()


async def main():
    print(*await asyncio.gather(greeting("world"), greeting("Zoë")), sep="\n")


asyncio.run(main())
