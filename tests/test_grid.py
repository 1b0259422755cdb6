"""TLPs, the grid's order, and the selection that trains."""

import pytest

from metatlp.errors import InputError
from metatlp.grid import (
    PAPER_SIZES,
    TLP,
    Grid,
    missing_from_paper,
    select,
    select_dev,
    training_grid,
)


def grid_of(names: str) -> Grid:
    return Grid.of(TLP.parse(name) for name in names.split())


def named(grid: Grid) -> str:
    return " ".join(str(tlp) for tlp in grid.tlps)


def test_tlp_prints_and_parses():
    assert str(TLP("pos", "hi")) == "pos_hi"
    assert TLP.parse("pos_hi") == TLP("pos", "hi")


@pytest.mark.parametrize("text", ["", "pos", "pos_", "_hi", "hi_pos", "POS_hi", "qa-en"])
def test_no_tlp(text):
    with pytest.raises(InputError, match="no task-language pair"):
        TLP.parse(text)


def test_grid_order_is_tasks_then_paper_languages_then_codes():
    mixed = grid_of("ner_te ner_en pos_zh qa_de qa_en ner_bn pos_hi pos_hi")
    assert named(mixed) == "qa_en qa_de pos_hi pos_zh ner_en ner_bn ner_te"
    assert mixed.tasks == ("qa", "pos", "ner")
    assert mixed.languages == ("en", "hi", "de", "zh", "bn", "te")


def test_table_1_has_24_tlps():
    assert len(PAPER_SIZES) == 24
    assert PAPER_SIZES[TLP("pos", "de")] == 166_000
    assert TLP("qa", "fr") not in PAPER_SIZES
    assert TLP("pa", "hi") not in PAPER_SIZES


def test_training_grid_keeps_table_1_all_or_some_languages():
    available = grid_of("qa_en qa_zh pos_hi ner_bn").tlps
    assert named(training_grid(available)) == "qa_en pos_hi"
    assert named(training_grid(available, "all")) == "qa_en qa_zh pos_hi ner_bn"
    assert named(training_grid(available, "zh, bn")) == "qa_zh ner_bn"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("xx", "no training data in 'xx'; choose from bn, en"),
        ("en,,bn", "an empty name in 'en,,bn'"),
    ],
)
def test_training_grid_refuses(wanted, message):
    with pytest.raises(InputError, match=message):
        training_grid(grid_of("qa_en ner_bn").tlps, wanted)


def test_what_is_missing_from_table_1():
    without_two = [tlp for tlp in PAPER_SIZES if str(tlp) not in ("pa_fr", "ner_hi")]
    assert named(missing_from_paper([*without_two, TLP("pos", "te")])) == "pa_fr ner_hi"
    assert missing_from_paper(PAPER_SIZES) == Grid(())
    assert missing_from_paper(without_two, "all") == missing_from_paper([], "en") == Grid(())


def test_training_grid_with_nothing_left_says_what_there_is():
    with pytest.raises(InputError, match="no TLP left; training data was found for ner_bn"):
        training_grid([TLP("ner", "bn")])


@pytest.mark.parametrize(
    ("selection", "chosen"),
    [
        ("all", "qa_en qa_hi pos_en pos_hi ner_hi"),
        ("task:pos,ner", "pos_en pos_hi ner_hi"),
        ("lang:hi", "qa_hi pos_hi ner_hi"),
        ("ner_hi,qa_en", "qa_en ner_hi"),
        ("qa_en", "qa_en"),
    ],
)
def test_selection(selection, chosen):
    assert named(select(grid_of("qa_en qa_hi pos_en pos_hi ner_hi"), selection)) == chosen


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ("task:pa", "unknown task 'pa'; choose from qa, ner"),
        ("lang:fr", "unknown lang 'fr'; choose from en, hi"),
        ("lang:", "an empty name"),
        ("family:romance", "cannot read 'family:romance'"),
        ("everything", "cannot read 'everything'"),
        ("qa_hi", "no training data for 'qa_hi'; choose from qa_en, ner_hi"),
        ("qa_en,", "an empty name"),
    ],
)
def test_selection_refuses(selection, message):
    with pytest.raises(InputError, match=message):
        select(grid_of("qa_en ner_hi"), selection)


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("qa_en", "qa_en"),
        ("ner_ta,qa_hi", "qa_hi ner_ta"),
        ("lang:hi", "qa_hi ner_hi"),
        ("task:qa,ner", "qa_en qa_hi ner_hi"),
    ],
)
def test_dev_tlps(text, chosen):
    with_dev = grid_of("qa_en qa_hi qa_ta ner_hi ner_ta").tlps
    assert named(select_dev(with_dev, grid_of("qa_en qa_hi ner_hi"), text)) == chosen


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lang:ta", "--dev-tlps: unknown lang 'ta'; choose from en, hi"),
        ("task:pos", "--dev-tlps: unknown task 'pos'; choose from qa, ner"),
        ("task:ner", "--dev-tlps: no dev data for 'ner_hi'; it was found for qa_en"),
        ("qa_hi", "--dev-tlps: no dev data for 'qa_hi'"),
        ("target:qa_en", "--dev-tlps: cannot read 'target:qa_en'"),
        ("qa_en,", "--dev-tlps: an empty name"),
        ("english", "'english' is no task-language pair"),
    ],
)
def test_dev_tlps_refuses(text, message):
    with pytest.raises(InputError, match=message):
        select_dev(grid_of("qa_en").tlps, grid_of("qa_en ner_hi"), text)
