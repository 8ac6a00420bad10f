"""The results of the demo: one image as a table, and all of them together."""

from __future__ import annotations

from rich.table import Table

#: Of the JPEG and the AVIF that are compared with.
QUALITY = 10


def table(result: dict) -> Table:
    """What a person wants to see of one image."""
    size = result["bytes"]
    ms = result["milliseconds"]
    width, height = result["source_size"]
    coded = "x".join(map(str, result["coded_size"]))
    shown = Table(title=f"{result['image']}  {width}x{height}, coded at {coded}", show_header=False)
    shown.add_column(style="bold")
    shown.add_column(justify="right")
    shown.add_column()
    rate = f"{result['bits_per_pixel']:.3f} bits per pixel of the source"
    shown.add_row("sent", f"{size['sent']:,} B", rate)
    codings = {"raw": "raw", f"jpeg_q{QUALITY}": "JPEG q10", f"avif_q{QUALITY}": "AVIF q10"}
    for name, what in codings.items():
        note = "" if name == "raw" else f", at {coded}"
        shown.add_row(
            what, f"{size[name]:,} B", f"{size[name] / size['sent']:.1f} times what was sent{note}"
        )
    for name in ("encode", "transport", "decode", "detect", "total"):
        note = "all hops over DDS, and waiting" if name == "transport" else ""
        shown.add_row(name, f"{ms[name]:.1f} ms", note)
    for name, judge in (("persons", "detector"), ("faces", "MTCNN")):
        counts = result[name]
        note = f"{judge}, original → decoded"
        if name == "faces":
            note += f"; {counts['stamps']} stamps, nobody's"
        shown.add_row(name, f"{counts['original']} → {counts['decoded']}", note)
    return shown


def summary(results: list[dict]) -> dict:
    """Of all images together: counts and bytes added up, rate averaged."""

    def total(group: str) -> dict[str, int]:
        added: dict[str, int] = {}
        for key in results[0][group]:
            added[key] = sum(result[group][key] for result in results)
        return added

    return {
        "images": len(results),
        "model": results[0]["model"],
        "fingerprint": results[0]["fingerprint"],
        "bits_per_pixel": sum(result["bits_per_pixel"] for result in results) / len(results),
        "bytes": total("bytes"),
        "persons": total("persons"),
        "faces": total("faces"),
    }
