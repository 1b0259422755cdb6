"""--push-to-hub against a server that speaks the hub's protocol, in this process."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
import torch
import yaml
from transformers import AutoTokenizer

from metatlp.engine.build import head_specs
from metatlp.engine.models import export_models
from metatlp.engine.provenance import Provenance
from metatlp.export import command
from metatlp.export.hub import check_push
from metatlp.model.multitask import build_model
from metatlp.tasks.task import Limits

TOKEN = "hf_standin"


class Hub(ThreadingHTTPServer):
    """Repositories in memory.

    Attributes:
        files: repository -> path -> content. private: repository -> whether it is.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.large: dict[str, bytes] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_):
        pass

    def answer(self, code: int, value=None) -> None:
        content = json.dumps(value or {}).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def do_PUT(self):  # noqa: N802
        content = self.body()
        oid = self.path.removeprefix("/lfs/")
        assert hashlib.sha256(content).hexdigest() == oid
        self.server.large[oid] = content
        self.answer(200)

    def do_GET(self):  # noqa: N802
        self.answer(404, {"error": f"no {self.path} here"})

    def do_POST(self):  # noqa: N802
        body, path = self.body(), self.path
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.answer(401, {"error": "Invalid username or password."})
        elif path == "/api/repos/create":
            self.create(json.loads(body))
        elif path == "/api/validate-yaml":
            _, matter, _ = json.loads(body)["content"].split("---\n", 2)
            assert yaml.safe_load(matter)["library_name"] == "transformers"
            self.answer(200, {"errors": [], "warnings": []})
        elif path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.server.address}/lfs/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            self.answer(200, {"objects": objects, "transfer": "basic"})
        elif path.endswith("/preupload/main"):
            modes = [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if one["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for one in json.loads(body)["files"]
            ]
            self.answer(200, {"files": modes})
        elif path.endswith("/commit/main"):
            self.commit(path.removeprefix("/api/models/").removesuffix("/commit/main"), body)
        else:
            self.answer(404, {"error": f"no {path} here"})

    def create(self, asked: dict) -> None:
        owner = asked.get("organization") or "somebody"
        if owner != "somebody":
            return self.answer(403, {"error": "You don't have the rights to create a model there"})
        name = f"{owner}/{asked['name']}"
        url = {"url": f"{self.server.address}/{name}"}
        if name in self.server.files:
            return self.answer(409, url)
        self.server.files[name] = {}
        private = asked.get("private") or asked.get("visibility") == "private"
        self.server.private[name] = bool(private)
        return self.answer(200, url)

    def commit(self, repository: str, body: bytes) -> None:
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                content = base64.b64decode(value["content"])
                self.server.files[repository][value["path"]] = content
            elif line["key"] == "lfsFile":
                content = self.server.large[value["oid"]]
                self.server.files[repository][value["path"]] = content
        url = f"{self.server.address}/{repository}/commit/abc"
        self.answer(200, {"commitUrl": url, "commitOid": "abc", "success": True})


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A stand-in of the hub, which is what huggingface_hub then speaks to."""
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    # What HF_ENDPOINT, HF_HUB_OFFLINE=0, HF_HUB_DISABLE_XET=1 and HF_HOME mean at start-up.
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def exported(encoder_dir, tmp_path_factory) -> Path:
    """Models of two tasks."""
    folder = tmp_path_factory.mktemp("exported") / "models"
    model = build_model(str(encoder_dir), head_specs(["pos", "qa"]), seed=0)
    own = Provenance("mtl", str(encoder_dir), ("pos_en", "qa_en"), {}, Limits())
    export_models(model, AutoTokenizer.from_pretrained(encoder_dir), folder, own)
    return folder


def push(exported: Path, output: Path, *flags: str) -> int:
    return command.main(["--run", str(exported), "--output-dir", str(output), *flags])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_repository_per_task_holds_the_bytes_of_the_folder(hub, exported, tmp_path, capsys):
    assert push(exported, tmp_path / "out", "--push-to-hub", "somebody/mine", "--private") == 0
    assert set(hub.files) == {"somebody/mine-pos", "somebody/mine-qa"}
    for task in ("pos", "qa"):
        found = hub.files[f"somebody/mine-{task}"]
        assert found == contents(exported / task)
        assert {"README.md", "metatlp.json", "model.safetensors", "tokenizer.json"} <= set(found)
    assert hub.private == dict.fromkeys(hub.files, True)
    assert f"pushed {hub.address}/somebody/mine-pos" in capsys.readouterr().out
    # Again, without an owner: the token's, whose repositories are there and stay private.
    hub.files["somebody/mine-pos"].clear()
    flags = ["--push-to-hub", "mine", "--tasks", "pos"]
    assert push(exported, tmp_path / "again", *flags) == 0
    assert hub.files["somebody/mine-pos"] == contents(exported / "pos")
    assert hub.private == dict.fromkeys(hub.files, True)


def test_repositories_are_public_by_default(hub, exported, tmp_path):
    assert push(exported, tmp_path / "out", "--push-to-hub", "open", "--tasks", "qa") == 0
    assert hub.private == {"somebody/open-qa": False}


def error(capsys) -> str:
    text = capsys.readouterr().err
    lines = [line for line in text.splitlines() if "python -m metatlp.export: error" in line]
    assert len(lines) == 1 and "Traceback" not in text
    return lines[0]


def test_what_the_hub_refuses_is_one_line(hub, exported, tmp_path, capsys, monkeypatch):
    assert push(exported, tmp_path / "a", "--push-to-hub", "other/mine") == 2
    assert "--push-to-hub other/mine-qa: " in (line := error(capsys)) and "403" in line
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert push(exported, tmp_path / "b", "--push-to-hub", "somebody/mine") == 2
    assert "--push-to-hub somebody/mine-qa: " in (line := error(capsys)) and "401" in line
    # The folder is there all the same, and can be pushed from.
    assert contents(tmp_path / "b" / "pos") == contents(exported / "pos")
    assert not hub.files


def test_what_stands_against_a_push_is_said_before_anything_is_written(
    hub, exported, tmp_path, capsys, monkeypatch
):
    output = tmp_path / "out"
    for name in ("a/b/c", "with blank", "x--y"):
        assert push(exported, output, "--push-to-hub", name) == 2
        assert f"--push-to-hub {name}: " in error(capsys)
    monkeypatch.delenv("HF_TOKEN")
    assert push(exported, output, "--push-to-hub", "mine") == 2
    assert "no token; run `hf auth login`, or set HF_TOKEN" in error(capsys)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert push(exported, output, "--push-to-hub", "mine") == 2
    assert "HF_HUB_OFFLINE is set; unset it" in error(capsys)
    assert not output.exists() and not hub.files


def test_a_token_file_is_enough(hub, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    Path(huggingface_hub.constants.HF_TOKEN_PATH).write_text(TOKEN)
    check_push("mine")


def test_a_server_that_is_gone_is_one_line(hub, exported, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert push(exported, tmp_path / "out", "--push-to-hub", "mine") == 2
    assert "--push-to-hub mine-qa: " in error(capsys)


def test_models_replace_those_of_before_whole_or_not_at_all(exported, encoder_dir, tmp_path):
    folder = tmp_path / "run" / "models"
    shutil.copytree(exported, folder)
    (folder / "pos" / "stale").touch()
    model = build_model(str(encoder_dir), head_specs(["pos"]), seed=1)
    tokenizer = AutoTokenizer.from_pretrained(encoder_dir)
    own = Provenance("mtl", str(encoder_dir), ("pos_en",), {}, Limits())
    before = contents(folder / "pos")
    with pytest.raises(command.InputError, match="--output-dir: cannot write .*models"):
        export_models(model, None, folder, own)  # fails once the first model is written
    assert contents(folder / "pos") == before and (folder / "qa").is_dir()
    export_models(model, tokenizer, folder, own)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["models"]
    assert [path.name for path in folder.iterdir()] == ["pos"]
    assert "stale" not in contents(folder / "pos")
    assert torch.equal(model.models["pos"].classifier.bias, torch.zeros(17))
