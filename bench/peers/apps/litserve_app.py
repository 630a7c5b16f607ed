"""A picture service on LitServe, with its dynamic batching on: `python litserve_app.py PORT`."""

import sys
from typing import Any

import litserve
from drawing import Studio, alike

MAX_BATCH_SIZE = 16
BATCH_TIMEOUT_SECONDS = 0.05


class Pictures(litserve.LitAPI):
    """Draws what waits; of a batch, those that ask for the same together."""

    def setup(self, device: str) -> None:
        self._studio = Studio()

    def decode_request(self, request: dict[str, Any]) -> dict[str, Any]:
        return request

    def batch(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return inputs

    def predict(self, jobs: list[dict[str, Any]]) -> list[dict[str, str]]:
        groups: dict[tuple[object, ...], list[dict[str, Any]]] = {}
        for job in jobs:
            groups.setdefault(alike(job), []).append(job)
        keys = {}
        for group in groups.values():
            for job, key in zip(group, self._studio.draw(group), strict=True):
                keys[job["id"]] = key
        return [{"key": keys[job["id"]]} for job in jobs]

    def unbatch(self, output: list[dict[str, str]]) -> list[dict[str, str]]:
        return output

    def encode_response(self, output: dict[str, str]) -> dict[str, str]:
        return output


if __name__ == "__main__":
    api = Pictures(max_batch_size=MAX_BATCH_SIZE, batch_timeout=BATCH_TIMEOUT_SECONDS)
    server = litserve.LitServer(api, accelerator="cpu", timeout=False, restart_workers=True)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
