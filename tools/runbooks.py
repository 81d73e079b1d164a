"""Write docs/operations/runbooks.md from the sentences that the health page shows (infra/page_texts/runbook.toml)."""

from pathlib import Path

from infra.texts import say, sections

PAGE = Path(__file__).parent.parent / "docs" / "operations" / "runbooks.md"
_HEAD = """# Runbooks

For whoever is called: what each alarm of ours means and the first three steps. An entry has the name of the part
(`/readyz`, `riverchief_part_ok{part}`; the page `/health` shows the same steps beside a part that fails) or of the
check of `riverchief doctor`. [Monitoring](monitoring.md) says which metric belongs to which. Made by `python -m
tools.runbooks` from `infra/page_texts/runbook.toml`.
"""


def page() -> str:
    """The document."""
    parts = [_HEAD]
    for key in sorted(sections("runbook")):
        text = say(key)
        (meaning, *steps), (zh, *_) = text.en.splitlines(), text.zh.splitlines()
        listed = "\n".join(f"{number}. {step}." for number, step in enumerate(steps, 1))
        parts.append(f"## {key.partition('.')[2]}\n\n{meaning}. {zh}。\n\n{listed}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
