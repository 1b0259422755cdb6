"""The whole report: its files, and that every number of it comes from a run's file."""

from __future__ import annotations

import csv
import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from metatlp.report.reproduction import main
from metatlp.report.run_pages import size, thinned
from metatlp.report.sheets import Sheet, latex, markdown, tex

VOID = {"meta", "link", "img", "br", "input", "hr"}
NUMBERS = ("--bootstrap", "200", "--targets", "table2,table3,table4,ablations")
TABLES = ("table1", "table2", "table3", "table4", "grid_search", "ablations")


class Page(HTMLParser):
    """Checks that tags are closed in order, and keeps links, ids and the text."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.links += [given[name] for name in ("src", "href") if name in given]
        self.ids += [given["id"]] if "id" in given else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def report(whole_results):
    assert main(["--results", str(whole_results), "--bootstrap", "200"]) == 0
    return whole_results / "report"


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_target_has_its_files(report):
    for target in TABLES:
        assert {(report / f"{target}.{kind}").exists() for kind in ("md", "csv", "tex")} == {True}
    for figure in ("figure2", "figure3"):
        assert (report / f"{figure}.svg").read_bytes().startswith(b"<?xml")
        assert (report / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in report.glob("claims*")} == {
        "claims",
        *("claims.csv", "claims.md", "claims.tex", "claims_numbers.csv"),
    }


def test_pages_are_whole_and_need_nothing_from_elsewhere(report):
    pages = [report / "index.html", *(report / "claims").glob("*.html")]
    assert len(pages) == 1 + len(read_csv(report / "claims.csv"))
    for path in pages:
        text = path.read_text()
        page = Page(text)
        assert len(set(page.ids)) == len(page.ids)
        for link in page.links:
            assert not re.match(r"\w+:", link) or link.startswith("data:"), link
            if link.startswith("#"):
                assert link[1:] in page.ids
            elif not link.startswith("data:"):
                assert (path.parent / link.partition("#")[0]).exists(), link
        assert "url(" not in text and "@import" not in text and "<script" not in text


def test_what_the_page_says(report):
    page = Page((report / "index.html").read_text())
    assert "Protocol made is not the paper's" in page.text
    assert "meta-temp-lang: tau 1 by its mean dev score over 15 pairs" in page.text
    assert "python finetune.py --output-dir runs/data" in page.text
    assert "not decidable" in page.text and "the run data" in page.text
    for name in (*TABLES, "figure2", "figure3", "claims", "reading", "compute"):
        assert name in page.ids


def test_csv_has_what_the_tables_show(report):
    rows = read_csv(report / "table2.csv")
    assert len(rows) == 11 * 5
    markdown_text = (report / "table2.md").read_text()
    for row in rows:
        value = f"{float(row['value']):.2f}"
        assert value in markdown_text
        assert float(row["low"]) <= float(row["value"]) <= float(row["high"])
        if row["difference"]:
            reference = [
                float(r["value"])
                for r in rows
                if (r["row"], r["task"], r["lang"]) == (row["reference"], row["task"], row["lang"])
            ]
            assert float(row["difference"]) == pytest.approx(
                float(row["value"]) - reference[0], abs=2e-4
            )
            assert 0 < float(row["p_models"]) <= 1 and 0 < float(row["p"]) <= 1
        else:
            assert row["group"] == "Baselines"
        assert row["paper"] == ""


def test_latex_is_balanced(report):
    for path in report.glob("*.tex"):
        text = re.sub(r"\\[\\%&$#_{}]", "", path.read_text())
        code = [line.partition("%")[0] for line in text.splitlines()]
        depth = 0
        for character in "".join(code):
            depth += {"{": 1, "}": -1}.get(character, 0)
            assert depth >= 0
        assert depth == 0
        assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") > 0
        for line in code:
            assert line.count("$") % 2 == 0 and "#" not in line


def test_signs_of_latex_and_markdown():
    sheet = Sheet("100 %", ["a_b", "#"], [["x & y", "50 % ± 1"]], frozenset({(0, 1)}))
    assert latex(sheet) == [
        r"% 100 \%",
        r"\begin{tabular}{ll}",
        r"\toprule",
        r"a\_b & \# \\",
        r"\midrule",
        r"x \& y & \textbf{50 \% $\pm$ 1} \\",
        r"\bottomrule",
        r"\end{tabular}",
        "",
    ]
    assert tex("~^\\{") == r"\textasciitilde{}\textasciicircum{}\textbackslash{}\{"
    assert markdown(Sheet("t", ["a|b"], [["c"]]))[2:] == ["| a\\|b |", "|---|", "| c |", ""]


def test_the_same_results_give_the_same_bytes(report, whole_results, tmp_path):
    argv = ["--results", str(whole_results), "--bootstrap", "200", "--output", str(tmp_path / "r")]
    assert main(argv) == 0
    again = {p.relative_to(tmp_path / "r"): p for p in (tmp_path / "r").rglob("*") if p.is_file()}
    assert len(again) > 40
    for name, path in again.items():
        assert path.read_bytes() == (report / name).read_bytes(), name


def flat(report):
    """Every number of the tables: (target, row, tlp) -> the line without what places it."""
    return {
        (target, row["row"], row["task"], row["lang"]): tuple(row.values())[6:]
        for target in ("table2", "table3", "table4", "ablations")
        for row in read_csv(report / f"{target}.csv")
    }


def test_a_changed_score_changes_its_cell_and_what_is_compared_with_it(
    whole_results, report, tmp_path
):
    copy = tmp_path / "copy"
    shutil.copytree(whole_results, copy)
    # One baseline, the best of its column, on one seed; the terms would contradict.
    folder = copy / "runs/table2-baseline-pos_en-1-"
    found = json.loads((folder / "results.json").read_text())
    found["results"][0]["scores"]["test"]["accuracy"] = 1.0
    (folder / "results.json").write_text(json.dumps(found))
    (folder / "pos_en/seed_1/terms.npz").unlink()
    assert main(["--results", str(copy), *NUMBERS]) == 0
    before, after = flat(report), flat(copy / "report")
    changed = {key for key in before if before[key] != after[key]}
    assert before.keys() == after.keys()
    assert ("table2", "baseline", "pos", "en") in changed
    # Its column, and the p-values of the rows, which are adjusted over their columns.
    values = {
        key
        for key in changed
        if before[key][:4] != after[key][:4] or before[key][6:10] != after[key][6:10]
    }
    assert values and {key[2:] for key in values} == {("pos", "en")}
    assert {key[0] for key in changed} <= {"table2", "table4"}
    others = {key for key in changed if key[2:] != ("pos", "en")}
    assert all(before[key][:10] == after[key][:10] for key in others)


def test_a_changed_score_that_nothing_is_compared_with_changes_its_cell_alone(
    whole_results, report, tmp_path
):
    copy = tmp_path / "copy"
    shutil.copytree(whole_results, copy)
    folder = copy / "runs/table2-meta-mdds-lang-nli_es-2-"
    found = json.loads((folder / "results.json").read_text())
    found["results"][0]["scores"]["test"]["accuracy"] = 0.0
    (folder / "results.json").write_text(json.dumps(found))
    (folder / "nli_es/seed_2/terms.npz").unlink()
    assert main(["--results", str(copy), *NUMBERS]) == 0
    before, after = flat(report), flat(copy / "report")
    # Numbers without the p-values, which are adjusted together, and without who is best.
    changed = {key for key in before if before[key][:10] != after[key][:10]}
    assert changed == {("table2", "meta-mdds-lang", "nli", "es")}


def test_the_paper_is_compared_only_by_protocols_that_say_so(made, tmp_path, capsys):
    paper = tmp_path / "paper"
    paper.mkdir()
    head = "task,lang,selection,method,sampler,kind,value\n"
    (paper / "table2.csv").write_text(head + "pos,en,single,baseline,,score,96.15\n")
    made.finetuned("table2", "baseline", "pos_en", {0: [1, 1, 1, 0], 1: [1, 1, 0, 0]})
    argv = ["--bootstrap", "200", "--paper", str(paper), "--targets", "table2"]
    for compare in (False, True):
        made.protocol["compare_with_paper"] = compare
        assert main(["--results", str(made.write()), *argv]) == 0
        (row,) = read_csv(made.folder / "report/table2.csv")
        text = (made.folder / "report/index.html").read_text()
        # .75 and .5: 62.50 - 96.15.
        wanted = ("96.1500", "-33.6500") if compare else ("", "")
        assert (row["paper"], row["minus_paper"]) == wanted
        assert ("-33.65" in text) is compare and ("is not the paper" in text) is not compare
    assert main(["--results", str(made.folder), "--paper", str(tmp_path / "no")]) == 2
    assert "--paper" in capsys.readouterr().err


def test_partial_reports_say_what_is_missing(whole_results, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(whole_results, copy)
    gone = "runs/table2-baseline-pos_en-1-"
    shutil.rmtree(copy / gone)
    argv = ["--results", str(copy), "--bootstrap", "200", "--targets", "table2"]
    assert main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{gone}/results.json: No such file or directory" in line
    assert main([*argv, "--partial"]) == 0
    text = (copy / "report/table2.md").read_text()
    assert f"- table2 baseline pos_en seed 1: {gone}/results.json is missing" in text


def test_a_target_that_the_protocol_has_not(made):
    made.finetuned("table2", "baseline", "pos_en", {0: [1, 0]})
    argv = [
        "--results",
        str(made.write()),
        "--bootstrap",
        "200",
        "--targets",
        "table2,table3,claims",
    ]
    assert main(argv) == 0
    assert "has nothing of it" in (made.folder / "report/table3.md").read_text()
    assert not (made.folder / "report/table4.md").exists()
    verdicts = {row["verdict"] for row in read_csv(made.folder / "report/claims.csv")}
    assert verdicts == {"not decidable"}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--targets", "table9"], "--targets: unknown 'table9'; choose from table1"),
        (["--confidence", "95"], "--confidence 95.0: must be above 0 and below 1"),
        (["--bootstrap", "2"], "--bootstrap 2: at least 100"),
        (["--result", "x"], "unrecognized arguments"),
    ],
)
def test_mistakes_are_one_line_and_code_2(made, capsys, argv, message):
    assert main(["--results", str(made.folder), *argv]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_texts_of_others_are_escaped(made):
    made.protocol["description"] = "<b>bold</b> & more"
    made.rows = {"ablations": {"reset": "<i>reset</i>"}}
    made.finetuned("ablations", "reset", "pos_en", {0: [1, 0]})
    argv = ["--results", str(made.write()), "--bootstrap", "200", "--targets", "ablations"]
    assert main(argv) == 0
    text = (made.folder / "report/index.html").read_text()
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; more" in text and "<i>" not in text


def test_damaged_records_of_runs_are_named(made, capsys):
    made.finetuned("ablations", "reset", "pos_en", {0: [1, 0]})
    folder = made.write()
    path = next(folder.glob("runs/*/workflow.json"))
    argv = ["--results", str(folder), "--bootstrap", "200", "--targets", "ablations"]
    path.unlink()
    assert main(argv) == 0
    assert "1 runs are planned; 0 have a record" in (folder / "report/index.html").read_text()
    path.write_text("{}")
    assert main(argv) == 2
    assert "workflow.json: damaged (no number at seconds)" in capsys.readouterr().err


def test_long_curves_are_thinned():
    x, y = thinned([(step, float(step % 2)) for step in range(1, 1001)])
    assert len(x) == 250 and x[-1] == 1000 and set(y) == {0.5}
    assert thinned([(1, 2.0)]) == ([1], [2.0])


@pytest.mark.parametrize(("number", "text"), [(12, "12 B"), (5532144, "5.53 MB"), (2e10, "20 GB")])
def test_bytes(number, text):
    assert size(number) == text
