"""How fast this machine trains is measured on request, and never beside a job."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from tests import tiny_model
from tests.engine.rig import Rig, engine, rows, trainer
from tunedesk.engine.server import create_app

SPEED = """
import json, pathlib, sys
orders = json.loads((pathlib.Path(sys.argv[1]) / "job.json").read_text())
lines = pathlib.Path(orders["training_file"]).read_text().splitlines()
if len(lines) == 2:
    sys.exit("no row has anything to train")
print("noise")
print(json.dumps({"type": "speed", "tokens": 100 * (len(lines) != 3), "seconds": 0.5}))
"""
"""A speedometer without the training stack."""
ROWS = [json.loads(line) for line in rows(5).splitlines()]


def scripted(rig: Rig) -> Rig:
    context = replace(rig.context, speedometer=(sys.executable, "-c", SPEED))
    rig.transport.app = create_app(context)
    return replace(rig, context=context)


async def test_the_speed_of_a_model_is_measured_and_what_is_wrong_is_said(tmp_path: Path) -> None:
    with engine(tmp_path) as plain:
        rig = scripted(plain)
        async with rig.http() as http:
            told = await http.post("/v1/engine/speed", json={"model": "tiny", "rows": ROWS})
            assert told.json() == {"model": "tiny", "tokens_per_second": 200.0, "tokens": 100, "seconds": 0.5}
            assert not list(rig.state.exports.iterdir())
            for body, status, code in (
                ({"model": "tiny", "rows": []}, 400, "invalid_rows"),
                ({"model": "tiny", "rows": ROWS[:2]}, 400, "not_measured"),
                ({"model": "tiny", "rows": ROWS[:3]}, 400, "not_measured"),
                ({"model": "nobody", "rows": ROWS}, 400, "model_not_found"),
                ({"model": "tiny"}, 400, None),
            ):
                refused = await http.post("/v1/engine/speed", json=body)
                assert refused.status_code == status, body
                assert code is None or refused.json()["error"]["code"] == code


async def test_nothing_is_measured_beside_a_job(tmp_path: Path) -> None:
    with engine(tmp_path, trainer("--delay", "0.2")) as plain:
        rig = scripted(plain)
        async with rig.http() as http, rig.client() as client:
            file = await client.files.create(file=("t.jsonl", rows()), purpose="fine-tune")
            await client.fine_tuning.jobs.create(model="tiny", training_file=file.id)
            while rig.context.worker.progress is None:
                await asyncio.sleep(0.01)
            refused = await http.post("/v1/engine/speed", json={"model": "tiny", "rows": ROWS})
            assert (refused.status_code, refused.json()["error"]["code"]) == (409, "engine_busy")


def test_the_trainers_own_steps_are_timed(tmp_path: Path) -> None:
    tiny_model.build(tmp_path / "models" / "tiny")
    (tmp_path / "rows.jsonl").write_bytes(rows(8))
    tuning = {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 1.0}
    orders = {
        "model": "tiny",
        "models": [str(tmp_path / "models")],
        "training_file": str(tmp_path / "rows.jsonl"),
        "hyperparameters": tuning,
        "seed": 0,
    }
    (tmp_path / "job.json").write_text(json.dumps(orders))
    command = [sys.executable, "-m", "tunedesk.engine.speed", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["tokens"] > 0
    assert told["seconds"] > 0
    assert not (tmp_path / "adapter").exists()
