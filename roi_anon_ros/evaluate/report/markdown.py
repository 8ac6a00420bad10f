"""Tables, and how they look in Markdown; nothing that takes long to import."""

from __future__ import annotations

#: Lines of cells, the header first.
Table = list[list[str]]


def to_markdown(table: Table) -> str:
    """A table in Markdown, with an empty line after it."""
    rows = [table[0], ["---"] * len(table[0]), *table[1:]]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"
