"""The matrix as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.survival.course import MIB, Case, Cell
from bench.survival.peer import Peer


def table(
    cells: Sequence[Cell], cases: Sequence[Case], peers: Sequence[Peer], versions: Mapping[str, str]
) -> str:
    found = {(cell.peer, cell.case): cell for cell in cells}
    lines = [f"| case (ideal) | {' | '.join(peer.name for peer in peers)} |"]
    lines.append("| --- |" + " --- |" * len(peers))
    for case in cases:
        row = [_words(found.get((peer.name, case.key))) for peer in peers]
        lines.append(f"| {case.title} ({case.ideal_s + case.outage_s:.1f} s) | {' | '.join(row)} |")
    memory = [_memory(found.get((peer.name, "plain"))) for peer in peers]
    if any(memory):
        lines.append(f"| anonymous memory for 60 MiB, receiver / sender | {' | '.join(memory)} |")
    lines.append("")
    lines += [f"- {peer.name} ({versions.get(peer.name, '?')}): {peer.settings}" for peer in peers]
    return "\n".join(lines)


def _words(cell: Cell | None) -> str:
    if cell is None:
        return ""
    if cell.state == "not run":
        return f"not run: {_safe(cell.reason)}"
    words = [f"{cell.state}" if cell.state == "complete" else f"**{cell.state}**"]
    if cell.held_s is not None:
        words[0] += f", {cell.held_s:.1f} s" if cell.state == "complete" else f" at {cell.held_s:.0f} s"
    if cell.pushed_bytes is not None and cell.update_bytes:
        words.append(f"{cell.pushed_bytes / cell.update_bytes:.2f} x bytes")
    if cell.first_data_s is not None:
        words.append(f"data {cell.first_data_s:.1f} s after link-up")
    if cell.reason:
        words.append(_safe(cell.reason))
    return "; ".join(words)


def _memory(cell: Cell | None) -> str:
    if cell is None or cell.server_anonymous_bytes is None or cell.client_anonymous_bytes is None:
        return ""
    return f"{cell.server_anonymous_bytes / MIB:.0f} / {cell.client_anonymous_bytes / MIB:.0f} MiB"


def _safe(text: str) -> str:
    return " ".join(text.replace("|", "/").split())
