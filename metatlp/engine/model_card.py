"""The README.md of an exported model."""

from __future__ import annotations

from metatlp.engine.provenance import Provenance


def model_card(provenance: Provenance) -> str:
    """Markdown with YAML front matter, as the Hugging Face hub reads it."""
    public = provenance.published()
    return f"# {public.task}\n"
