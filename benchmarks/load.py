"""What locust runs for ``serve.py``: users that ask questions of mixed lengths, without a pause or at a fixed rate."""

import json
import os
import random
from pathlib import Path

from locust import FastHttpUser, constant, constant_throughput, task

SETTINGS = json.loads(Path(os.environ["LOAD_SETTINGS"]).read_text())


class Asker(FastHttpUser):
    wait_time = constant_throughput(SETTINGS["rate"]) if SETTINGS["rate"] else constant(0)
    network_timeout = connection_timeout = 120.0

    def on_start(self) -> None:
        self.texts = random.Random(id(self)).sample(SETTINGS["texts"], len(SETTINGS["texts"]))
        self.number = 0

    @task
    def ask(self) -> None:
        text = self.texts[self.number % len(self.texts)]
        self.number += 1
        body = {SETTINGS["field"]: text, **SETTINGS["body"]}
        with self.client.post(SETTINGS["path"], json=body, catch_response=True, name="ask") as answer:
            if answer.status_code in SETTINGS["refusals"]:
                answer.request_meta["name"] = "refused"
                answer.success()
            elif answer.status_code != 200:
                answer.failure(f"status {answer.status_code}")
