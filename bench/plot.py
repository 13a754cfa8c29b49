"""What `./run bench --peers` found: a picture, and the README's table."""
import math
from html import escape

from measure import MODES, USUAL, number

# Colours that are seen on white and on black.
STYLE = """
text { font: 12px sans-serif; fill: #7d8590 }
.head { font-weight: bold }
.end { text-anchor: end }
.middle { text-anchor: middle }
line { stroke: #7d8590; stroke-opacity: 0.3 }
rect { fill: #7d8590; fill-opacity: 0.5 }
text.ipcio { font-weight: bold; fill: #2f81f7 }
rect.ipcio { fill: #2f81f7; fill-opacity: 1 }
"""
SIZE = "64 B"
LABEL, PANEL, VALUE, ROW = 230, 220, 100, 20  # pixels
TITLES = {"round trip": f"round trip of {SIZE}: shorter is better",
          "stream": f"{SIZE} a message, one way: longer is better"}


def draw(found, path):
    cells = {(row["language"], row["name"], row["mode"], row["size"]): row["median"] for row in found["rows"]}
    peers = list(dict.fromkeys(key[:2] for key in cells if key[3] in USUAL))
    path.write_text(picture(cells, peers))
    print("\n".join(table(cells, peers)))
    print(f"\n{found['machine']}; medians of {found['rounds']} rounds.")
    if found["left out"]:
        print(f"Left out: {', '.join(found['left out'])}.")


def table(cells, peers):
    columns = [(mode, size) for mode in MODES for size in USUAL]
    yield "| | | " + " | ".join(f"{mode} {size}" for mode, size in columns) + " |"
    yield "|---|---|" + "---:|" * len(columns)
    for language, name in peers:
        values = [(mode, size, cells.get((language, name, mode, size))) for mode, size in columns]
        texts = ["" if value is None else number(mode, size, value).split(", ")[-1] for mode, size, value in values]
        yield "| " + " | ".join([language, f"**{name}**" if ours(name) else name, *texts]) + " |"


def ours(name):
    return name.startswith("ipcio")


def picture(cells, peers):
    """A row a peer and a panel a mode, from one power of ten to another."""
    rows = {peer: 44 + ROW * i + 12 * len({language for language, _ in peers[:i + 1]}) for i, peer in enumerate(peers)}
    width, height = LABEL + len(MODES) * (PANEL + VALUE), max(rows.values()) + 10
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">', f"<style>{STYLE}</style>"]

    def text(x, y, kind, words):
        parts.append(f'<text x="{x:.0f}" y="{y}" class="{kind}">{escape(words)}</text>')

    for i, ((language, name), y) in enumerate(rows.items()):
        if not i or peers[i - 1][0] != language:
            text(0, y, "head", language)
        text(LABEL - 8, y, "end ipcio" if ours(name) else "end", name)
    for i, mode in enumerate(MODES):
        left = LABEL + i * (PANEL + VALUE)
        shown = {peer: cells[*peer, mode, SIZE] for peer in peers if (*peer, mode, SIZE) in cells}
        first = math.floor(math.log10(min(shown.values(), default=1)))
        last = math.ceil(math.log10(max(shown.values(), default=10)))
        text(left, 14, "head", TITLES[mode])
        for power in range(first, last + 1):
            x = left + PANEL * (power - first) / (last - first)
            text(x, 36, "middle", axis(mode, power))
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="40" y2="{height}"/>')
        for peer, value in shown.items():
            kind, length = "ipcio" if ours(peer[1]) else "", PANEL * (math.log10(value) - first) / (last - first)
            parts.append(f'<rect x="{left}" y="{rows[peer] - 11}" width="{length:.1f}" height="14" class="{kind}"/>')
            text(left + length + 5, rows[peer], kind, number(mode, SIZE, value))
    return "\n".join([*parts, "</svg>", ""])


def axis(mode, power):
    if mode == "stream":
        return f"{10 ** (power % 3)}{['', ' k', ' M', ' G'][power // 3]}/s"
    return f"{10 ** (power % 3)} {['ns', 'us', 'ms', 's'][power // 3]}"
