"""Tables of scores with numbers worked out by hand, and the paper's beside them."""

from __future__ import annotations

import pytest

from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.report.collected import Resampler, collect
from metatlp.report.paper import paper_numbers
from metatlp.report.plan_file import read_plan
from metatlp.report.readings import Reader
from metatlp.report.tables import build_table

POS, PA = TLP("pos", "en"), TLP("pa", "en")


def table(made, target="table2", **more):
    folder = made.write()
    found = collect(read_plan(folder), target, Reader(folder), Resampler(500))
    return build_table(found, "a title", **more)


def entries(found, name):
    return next(row for row in found.rows() if row.name == name).entries


def eighths(right: int) -> list[float]:
    return [1.0] * right + [0.0] * (8 - right)


@pytest.fixture
def two_columns(made):
    """pos_en and pa_en; of eight examples so many are right."""
    right = {
        "mtl-task": (5, 6),
        "baseline": (6, 4),
        "meta-mdds-lang": (6, 7),
        "meta-temp-lang": (7, 5),
        "majority": (1, 2),
    }
    for row, numbers in right.items():
        for tlp, number in zip(("pos_en", "pa_en"), numbers, strict=True):
            made.finetuned("table2", row, tlp, {0: eighths(number)})
    return made


def test_rows_stand_as_in_the_paper(two_columns):
    found = table(two_columns, labels={"majority": "Majority"})
    rows = {title: [row.label for row in rows] for title, rows in found.groups.items()}
    assert rows == {
        "Baselines": ["Baselines", "Task-Limited MTL"],
        "Lang-Limited": ["Temp", "mDDS"],
        "Further systems": ["Majority"],
    }
    assert found.columns == (PA, POS)


def test_differences_are_from_the_best_baseline_of_each_column(two_columns):
    found = table(two_columns)
    temp, mdds = entries(found, "meta-temp-lang"), entries(found, "meta-mdds-lang")
    assert temp[POS].compared.reference == "baseline" and temp[PA].compared.reference == "mtl-task"
    assert [temp[tlp].compared.estimate.value for tlp in (POS, PA)] == [1 / 8, -1 / 8]
    assert [mdds[tlp].compared.estimate.value for tlp in (POS, PA)] == [0, 1 / 8]
    assert entries(found, "majority")[POS].compared.estimate.value == -5 / 8
    assert entries(found, "baseline")[POS].compared is None
    row = next(row for row in found.rows() if row.name == "meta-mdds-lang")
    assert row.mean.value == pytest.approx(13 / 16)
    assert row.mean_compared.estimate.value == pytest.approx(1 / 16)


def test_the_best_of_a_group_is_marked_the_darker_the_larger_its_difference(two_columns):
    found = table(two_columns)
    marked = {
        (row.name, tlp): e.shade for row in found.rows() for tlp, e in row.entries.items() if e.best
    }
    assert marked == {
        ("baseline", POS): 1,
        ("mtl-task", PA): 1,
        ("meta-temp-lang", POS): 4,
        ("meta-mdds-lang", PA): 4,
    }


def test_equal_scores_are_marked_alike(made):
    for row in ("baseline", "mtl-task", "meta-temp-all", "mdds-task"):
        made.finetuned("table2", row, "pos_en", {0: eighths(5)})
    made.finetuned("table2", "mdds-lang", "pos_en", {0: eighths(4)})
    best = {row.name for row in table(made).rows() if row.entries[POS].best}
    assert best == {"baseline", "mtl-task", "meta-temp-all", "mdds-task"}


@pytest.mark.parametrize(("gain", "shade"), [(-3, 1), (0, 1), (4, 2), (7, 3), (12, 4)])
def test_shades(made, gain, shade):
    # Of 1,000 examples; steps of half a point.
    made.finetuned("table2", "baseline", "pos_en", {0: [1.0] * 500 + [0.0] * 500})
    hits = [1.0] * (500 + gain) + [0.0] * (500 - gain)
    made.finetuned("table2", "meta-temp-all", "pos_en", {0: hits})
    assert entries(table(made), "meta-temp-all")[POS].shade == shade


def test_holm_is_over_the_columns_of_a_row(made):
    # Sure in the first column, chance in the second.
    for tlp, better in {"pos_en": 8, "pa_en": 4}.items():
        made.finetuned("table2", "baseline", tlp, {0: eighths(3)})
        made.finetuned("table2", "meta-temp-all", tlp, {0: eighths(better)})
    compared = {t: e.compared for t, e in entries(table(made), "meta-temp-all").items()}
    sure, chance = compared[POS].estimate.p_value(), compared[PA].estimate.p_value()
    assert sure < 0.02 < chance
    assert compared[POS].p == pytest.approx(2 * sure)
    assert compared[PA].p == pytest.approx(max(2 * sure, chance))
    # With one seed the models are all there is.
    assert compared[POS].p_models == compared[POS].p


def test_rows_of_ablations_have_references_of_their_own(made):
    made.finetuned("ablations", "reference", "pos_en", {0: eighths(4)})
    made.finetuned("ablations", "other", "pos_en", {0: eighths(2)})
    made.finetuned("ablations", "reset", "pos_en", {0: eighths(3)}, reference="other")
    found = table(made, "ablations")
    assert found.baselines is None
    assert entries(found, "reference")[POS].compared is None
    compared = [entries(found, name)[POS].compared for name in ("other", "reset")]
    assert [(c.reference, c.estimate.value) for c in compared] == [
        ("reference", -2 / 8),
        ("other", 1 / 8),
    ]


HEAD2 = "task,lang,selection,method,sampler,kind,value"
TABLE2 = f"""{HEAD2}
pos,en,single,baseline,,score,90.00
pos,en,task,mtl,,score,91.50
pos,en,lang,meta,temp,difference,+0.25
pos,en,all,meta,mdds-task,difference,-1.00
"""
TABLE4 = (
    "task,lang,selection,method,sampler,tau,kind,value\npos,en,lang,meta,temp,inf,score,88.00\n"
)


def test_the_papers_numbers_are_read_as_scores(tmp_path, made):
    (tmp_path / "table2.csv").write_text(TABLE2)
    (tmp_path / "table4.csv").write_text(TABLE4)
    (tmp_path / "table1.csv").write_text("task,lang,train_size\npos,en,21200\n")
    numbers = paper_numbers(tmp_path, "table2")
    assert numbers == {
        ("baseline", POS): 90,
        ("mtl-task", POS): 91.5,
        ("meta-temp-lang", POS): 91.75,
        ("mdds-task", POS): 90.5,
    }
    assert paper_numbers(tmp_path, "table4") == {("temp-inf-lang", POS): 88}
    assert paper_numbers(tmp_path, "table1") == {("train", POS): 21200}
    made.finetuned("table2", "baseline", "pos_en", {0: eighths(4)})
    assert entries(table(made, paper=numbers), "baseline")[POS].paper == 90


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"--paper: .*table2.csv: .*No such file"),
        (f"{HEAD2}\npos,en,task,mtl,,score,high\n", r"table2.csv:2: could not convert"),
        (f"{HEAD2}\nxx,en,task,mtl,,score,1\n", r"table2.csv:2: 'xx_en' is no"),
        ("task,lang\npos,en\n", r"table2.csv:2: 'kind'"),
        (f"{HEAD2}\npos,en,all,meta,temp,difference,1\n", r"pos_en has a difference and no base"),
    ],
)
def test_csv_files_that_cannot_be_read(tmp_path, text, message):
    if text is not None:
        (tmp_path / "table2.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        paper_numbers(tmp_path, "table2")
