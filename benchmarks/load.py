"""Locust file of ``serve.py``: users that send questions of mixed lengths, without a pause or at a fixed rate."""

import json
import os
import random
from pathlib import Path

from locust import FastHttpUser, constant, constant_throughput, task

SETTINGS = json.loads(Path(os.environ["LOAD_SETTINGS"]).read_text())


class SearchUser(FastHttpUser):
    """Sends the questions in random order, each after the response to the one before."""

    wait_time = constant_throughput(SETTINGS["rate"]) if SETTINGS["rate"] else constant(0)
    network_timeout = connection_timeout = 120.0

    def on_start(self) -> None:
        """Shuffles the questions."""
        self.texts = random.Random(id(self)).sample(SETTINGS["texts"], len(SETTINGS["texts"]))
        self.number = 0

    @task
    def send_question(self) -> None:
        """Sends the next question; a refusal is counted separately, and not as a failure."""
        text = self.texts[self.number % len(self.texts)]
        self.number += 1
        body = {SETTINGS["field"]: text, **SETTINGS["body"]}
        with self.client.post(SETTINGS["path"], json=body, catch_response=True, name="sent") as response:
            if response.status_code in SETTINGS["refusals"]:
                response.request_meta["name"] = "refused"
                response.success()
            elif response.status_code != 200:
                response.failure(f"status {response.status_code}")
