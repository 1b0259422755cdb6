"""Protocols: what is read, and one line that names file and key for everything that is wrong."""

from __future__ import annotations

import pytest

from metatlp.errors import InputError
from metatlp.reproduction.plan import PROTOCOLS, find_protocol, make_plan
from metatlp.reproduction.protocol_file import load_protocol
from metatlp.reproduction.values import canonical


@pytest.mark.parametrize(
    ("written", "word"),
    [(1, "1"), (1.0, "1"), ("1.0", "1"), ("3e-5", "3e-05"), (3e-5, "3e-05"), (0.1, "0.1"),
     (True, "true"), ("inf", "inf"), ("1e-3,1e-4", "0.001,0.0001"), ("qa=8,nli=32", "qa=8,nli=32"),
     ("a/1.0/b", "a/1.0/b"), ("reset", "reset"), (100000, "100000")],
)  # fmt: skip
def test_a_value_has_one_spelling(written, word):
    assert canonical(written) == word


def test_what_is_read(tiny, write):
    tiny["flags"]["meta"]["inner-lr"] = "3e-5"
    found = load_protocol(write(tiny), {})
    assert found.name == "tiny" and found.reference == "1" and found.taus == ("1", "inf")
    assert [str(tlp) for tlp in found.tlps] == ["pos_en", "pos_es", "ner_en"]
    meta = {"meta-batch-size": "2", "inner-steps": "2", "meta-lr": "1", "max-meta-steps": "2"}
    assert found.flags["meta"] == meta | {"inner-lr": "3e-05"}
    assert found.flags["multidds"] == {} and found.launch == () and found.gpus == 0


def test_settings_fill_in_and_override(tiny, write):
    tiny["flags"]["every"] = {"data-dir": "$DATA/xtreme"}
    path = write(tiny)
    found = load_protocol(path, {"DATA": "/d", "gpus": "2", "launch": "accelerate launch"})
    assert found.flags["every"] == {"data-dir": "/d/xtreme"}
    assert found.gpus == 2 and found.launch == ("accelerate", "launch")
    with pytest.raises(InputError, match=r"flags\.every\.data-dir: .* --config DATA="):
        load_protocol(path, {})
    with pytest.raises(InputError, match=r"^--config: gpus: 'many'"):
        load_protocol(path, {"DATA": "/d", "gpus": "many"})


def drop(name):
    return lambda p: p.pop(name)


def put(*path_and_value):
    *path, value = path_and_value

    def change(protocol):
        for name in path[:-1]:
            protocol = protocol.setdefault(name, {})
        protocol[path[-1]] = value

    return change


WRONG = {
    "no seeds": (drop("seeds"), "seeds: is missing"),
    "no flags": (drop("flags"), "flags: is missing"),
    "unknown key": (put("sedes", [0]), "sedes: unknown key; choose from description"),
    "a seed twice": (put("seeds", [0, 0]), r"seeds\[0\]: 0 stands there twice"),
    "a seed in words": (put("seeds", ["one"]), r"seeds\[0\]: 'one'; write a whole number"),
    "no list": (put("seeds", 3), "seeds: write a list"),
    "no TLPs": (put("tlps", []), "tlps: at least 1"),
    "no TLP": (put("tlps", ["pos-en"]), r"tlps\[0\]: 'pos-en' is no task-language pair"),
    "not in Table 1": (put("tlps", ["pos_et"]), r"tlps\[0\]: pos_et; choose from qa_en"),
    "not in Table 3": (put("external", ["pos_en"]), r"external\[0\]: pos_en; choose from qa_ar"),
    "no target": (put("figure3", ["qa_en"]), r"figure3\[0\]: qa_en; choose from pos_en"),
    "reference": (put("reference", 5), "reference: '5'; choose from 1, inf"),
    "a group": (put("flags", "metas", {}), r"flags\.metas: unknown key; choose from every"),
    "dashes": (put("flags", "mtl", {"--lr": 1}), r"flags\.mtl\.--lr: write a flag without"),
    "a plan's flag": (put("flags", "mtl", {"seed": 1}), r"flags\.mtl\.seed: the plan sets"),
    "a list": (put("flags", "mtl", {"lr": [1, 2]}), r"flags\.mtl\.lr: \[1, 2\]; write one value"),
    "no m": (put("flags", "meta", {}), r"flags\.meta: meta-batch-size must be written out"),
    "one rate": (put("rates", {"mtl": [1]}), r"rates\.mtl: at least 2"),
    "a method": (put("rates", {"sgd": [1, 2]}), r"rates\.sgd: unknown key; choose from meta"),
    "its seed": (put("rates", {"mtl": [1, 2], "seed": 0}), "rates: seed 0 is one of `seeds`"),
    "a point": (put("grid_search", {"m": [1], "k": [2]}), "grid_search: beta is missing"),
    "an extra": (put("ablations", {"seeds": [0], "extras": ["magic"]}),
                 r"ablations\.extras\[0\]: 'magic'; choose from majority"),
    "no D_dev": (put("ablations", {"seeds": [0], "multidds": {"a": {"reward": "b"}}}),
                 "ablations: dev is missing"),
    "D_dev": (put("ablations", {"seeds": [0], "dev": "task:qa"}), "ablations: dev: unknown task"),
    "rates to tune": (put("ablations", {"seeds": [0], "extras": ["tuned-rates"]}),
                      "rates: meta is missing"),
    "finetune_per": (put("finetune_per", "seed"), "finetune_per: 'seed'; choose from model, tlp"),
    "yes": (put("compare_with_paper", 1), "compare_with_paper: 1; choose from True, False"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_one_line_for_a_mistake(name, tiny, write):
    change, message = WRONG[name]
    change(tiny)
    path = write(tiny)
    with pytest.raises(InputError, match=f"^{path}: {message}") as error:
        load_protocol(path, {})
    assert "\n" not in str(error.value)


def test_no_yaml(tmp_path):
    path = tmp_path / "bad.yaml"
    with pytest.raises(InputError, match=f"^{path}: No such file"):
        load_protocol(path, {})
    path.write_text("a: [1")
    with pytest.raises(InputError, match=f"^{path}: no YAML"):
        load_protocol(path, {})
    path.write_text("- a")
    with pytest.raises(InputError, match=f"^{path}: the file: write keys"):
        load_protocol(path, {})
    with pytest.raises(InputError, match="^--config protocol=papers: name a YAML file, or one of"):
        find_protocol("papers")


@pytest.mark.parametrize("path", sorted(PROTOCOLS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_protocols_can_be_planned(path):
    plan = make_plan(path.stem, {"DATA": "D", "ENCODER": "E"})
    assert plan.protocol.name == path.stem and plan.targets()[0] == "table1"
