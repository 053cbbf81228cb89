"""Tables and a picture of what bench/compare has measured. Standard library only."""

import html
import math
import pathlib
import statistics

COLORS = ["#1b7f5c", "#8a8f98", "#b3541e", "#3b6fb6", "#8e44ad", "#b58900", "#c2185b", "#00838f"]


def columns(brokers):
    """Names of the columns, each once, the floor first, then Martlet, then the others."""
    names = list(dict.fromkeys(broker.column for broker in brokers))
    return sorted(names, key=lambda name: {"floor": 0, "martlet": 1}.get(name, 2))


def best_variants(values, brokers):
    """Figures by column: of several variants of a broker those with the lowest median. `values` has a
    list by broker and round, with None for a round without a figure."""
    best = {}
    for broker in brokers:
        figures = values.get(broker.name, [])
        present = [figure for figure in figures if figure is not None]
        if not present:
            continue
        median = statistics.median(present)
        if broker.column not in best or median < best[broker.column][0]:
            best[broker.column] = (median, figures)
    return {column: figures for column, (_, figures) in best.items()}


def spread(figures):
    """(median, lowest, highest) of the figures that are there; None if none is."""
    present = [figure for figure in figures or [] if figure is not None]
    return (statistics.median(present), min(present), max(present)) if present else None


def ratio(ours, theirs):
    """The same of our figure ÷ theirs, round by round."""
    pairs = zip(ours or [], theirs or [])
    return spread([a / b for a, b in pairs if a is not None and b])


def best_peer(by_column):
    peers = {name: spread(figures) for name, figures in by_column.items()
             if name not in ("martlet", "floor")}
    peers = {name: figures for name, figures in peers.items() if figures}
    return min(peers, key=lambda name: peers[name][0]) if peers else None


def number(value):
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 20 else f"{value:.2f}"


def cell(figures):
    if figures is None:
        return "–"
    middle, low, high = figures
    if number(low) == number(high):
        return number(middle)
    return f"{number(middle)} ({number(low)}–{number(high)})"


def table(rows, results, brokers):
    """A Markdown table: a line for each row that was measured."""
    names = columns(brokers)
    head = ["", *names, "martlet ÷ floor", "martlet ÷ best peer"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        if row.key not in results:
            continue
        figures = best_variants(results[row.key], brokers)
        ours, peer = figures.get("martlet"), best_peer(figures)
        against = cell(ratio(ours, figures.get(peer)))
        lines.append([
            row.title,
            *(cell(spread(figures.get(name))) for name in names),
            cell(ratio(ours, figures.get("floor"))),
            f"{against} {peer}" if peer and against != "–" else "–",
        ])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def picture(rows, results, brokers, caption):
    """A dot plot as SVG: rows beside each other are comparable, on a logarithmic scale."""
    names = [name for name in columns(brokers) if any(results[key].get(b.name) for key in results
                                                      for b in brokers if b.column == name)]
    rows = [row for row in rows if row.unit == "µs CPU" and row.key in results]
    points = [(row, best_variants(results[row.key], brokers)) for row in rows]
    values = [value for _, by in points for figures in by.values() for value in spread(figures)]
    if not values:
        return None
    low, high = (math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))))
    left, top, width, step = 350, 70, 560, 26
    height = top + step * len(points) + 50

    def x(value):
        return left + width * (math.log10(value) - low) / max(high - low, 1)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 40}" height="{height}" '
           f'font-family="system-ui, sans-serif" font-size="13">',
           f'<rect width="100%" height="100%" fill="#ffffff"/>',
           f'<text x="16" y="24" font-size="15" font-weight="600" fill="#1c2126">{html.escape(caption)}</text>']
    for index, name in enumerate(names):
        place = 16 + 130 * index
        out.append(f'<circle cx="{place + 5}" cy="44" r="5" fill="{COLORS[index % len(COLORS)]}"/>'
                   f'<text x="{place + 16}" y="48" fill="#1c2126">{html.escape(name)}</text>')
    bottom = top + step * len(points)
    for power in range(low, high + 1):
        for factor in (1, 2, 5):
            value = factor * 10.0 ** power
            if not 10.0 ** low <= value <= 10.0 ** high:
                continue
            out.append(f'<line x1="{x(value):.1f}" y1="{top - 8}" x2="{x(value):.1f}" y2="{bottom}" '
                       f'stroke="{"#c9ced6" if factor == 1 else "#eceff3"}"/>'
                       f'<text x="{x(value):.1f}" y="{bottom + 18}" text-anchor="middle" '
                       f'fill="#5b6470">{value:g}</text>')
    out.append(f'<text x="{left + width}" y="{bottom + 38}" text-anchor="end" fill="#5b6470">'
               'µs CPU of the broker (logarithmic; less is better)</text>')
    for line, (row, by_column) in enumerate(points):
        y = top + step * line + 8
        out.append(f'<text x="{left - 12}" y="{y + 4}" text-anchor="end" fill="#1c2126">'
                   f'{html.escape(row.title)}</text>')
        for index, name in enumerate(names):
            figures = spread(by_column.get(name))
            if figures is None:
                continue
            color = COLORS[index % len(COLORS)]
            middle, lowest, highest = (f"{x(value):.1f}" for value in figures)
            out.append(f'<line x1="{lowest}" y1="{y}" x2="{highest}" y2="{y}" stroke="{color}" '
                       f'stroke-width="2" opacity="0.5"/><circle cx="{middle}" cy="{y}" r="5" '
                       f'fill="{color}"><title>{html.escape(name)}: {cell(figures)}</title></circle>')
    out.append("</svg>")
    return "\n".join(out) + "\n"


def write_markdown(path, text, name="bench"):
    """Replaces what stands between the marks of that name, or the file where it has none."""
    path = pathlib.Path(path)
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    old = path.read_text() if path.exists() else ""
    if begin in old and end in old:
        text = old[:old.index(begin) + len(begin)] + "\n" + text + "\n" + old[old.index(end):]
    else:
        text += "\n"
    path.write_text(text)
