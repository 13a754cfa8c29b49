"""Asks file_server about a file and checks the answer; then has the file copied there and back, in rounds.
usage: python3 file_client.py [name or address] [file] [rounds] [copies in a round]"""
import pathlib
import sys

import ipcio
from count import count


def argument(number, default):
    return sys.argv[number] if len(sys.argv) > number else default


sample = pathlib.Path(__file__).parent / "data" / "sample.txt"
text = pathlib.Path(argument(2, sample)).read_bytes()
fd = ipcio.OpenConnection(ipcio.cNamedPipe, argument(1, "files"))  # waits for the server


def ask(request):
    ipcio.WriteData(fd, request)
    return ipcio.ReadData(fd)


answer = ask(b"count\n" + text)
if answer != count(text):
    sys.exit(f"wrong answer: {answer}")
print(answer.decode(), flush=True)

copies = int(argument(4, 100))
request = b"copy\n" + text
for _ in range(int(argument(3, 1))):
    for _ in range(copies):
        if ask(request) != text:
            sys.exit("the copy differs")
    print(f"copied {copies} times", flush=True)
ipcio.CloseConnection(fd)
