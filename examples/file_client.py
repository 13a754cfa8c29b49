"""Asks file_server about a file and checks the answer; then has the file copied there and back, in rounds.
usage: python3 file_client.py [name or address] [file] [rounds] [copies in a round]"""
import pathlib
import sys

import ipcio
from count import count

sample = pathlib.Path(__file__).parent / "data" / "sample.txt"
resource, path, rounds, copies = sys.argv[1:] + ["files", sample, 1, 100][len(sys.argv) - 1:]
text = pathlib.Path(path).read_bytes()
fd = ipcio.OpenConnection(ipcio.cNamedPipe, resource)  # waits for the server


def ask(request):
    ipcio.WriteData(fd, request)
    return ipcio.ReadData(fd)


answer = ask(b"count\n" + text)
if answer != count(text):
    sys.exit(f"wrong answer: {answer}")
print(answer.decode(), flush=True)

request = b"copy\n" + text
for _ in range(int(rounds)):
    for _ in range(int(copies)):
        if ask(request) != text:
            sys.exit("the copy differs")
    print(f"copied {copies} times", flush=True)
ipcio.CloseConnection(fd)
