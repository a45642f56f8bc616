"""A real server in a thread, for the tests: uvicorn on loopback, with the small run of the tests."""

import http.client
import json
import shutil
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import serve
from generation.batching import Continuation, generate
from generation.catalog import Catalog
from generation.sampling import SamplingParams
from generation.security import Access
from generation.worker import Worker

LONG = 10**6  # more tokens than a test waits for


def copy_of_one_run(workplace: Path, folder: Path) -> Path:
    """A workplace in which out/tiny is the only run. (Tests of training make others.)"""
    for name in ("data/novel", "out/tiny"):
        shutil.copytree(workplace / name, folder / name)
    return folder


@dataclass
class Running:
    """A server that runs, with what is behind it."""

    worker: Worker
    catalog: Catalog
    port: int
    jobs: list  # all that were submitted

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def request(self, method: str, path: str, body=None, headers=None) -> tuple[int, dict, str]:
        """Status, headers in lower case, and text. The path is sent as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        if body is not None and not isinstance(body, bytes):
            body, headers = json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})}
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, text

    def post(self, path: str = "/v1/completions", **body) -> dict:
        """The answer to a request that succeeds."""
        status, _, text = self.request("POST", path, body)
        assert status == 200, text
        return json.loads(text)

    def text(self, prompt: str, **body) -> str:
        """The text of the first choice."""
        return self.post(prompt=prompt, **body)["choices"][0]["text"]

    def open_stream(self, **body) -> socket.socket:
        """A raw connection that has sent a request for a long stream."""
        content = json.dumps({"prompt": "却说", "max_tokens": LONG, "stream": True, **body}).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost:{self.port}\r\nContent-Type: application/json\r\n"
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.sendall(head.encode() + f"Content-Length: {len(content)}\r\n\r\n".encode() + content)
        return connection

    def wait_until_idle(self) -> None:
        wait_for(lambda: not self.worker.running and not self.worker.waiting)

    def reference(self, prompt: str, seed: int, n: int = 1, keep: int = 0, **settings) -> list[str]:
        """The texts that generate() makes, called directly."""
        loaded = self.worker.load("")
        params = SamplingParams(**{"max_new_tokens": 16, **settings})
        batch = [Continuation(loaded.tokenizer, prompt, params) for _ in range(n)]
        return [c.new_text for c in generate(loaded.model, loaded.tokenizer, batch, params, seed, keep=keep)]


def wait_for(condition) -> None:
    """Wait until a condition holds, at most a minute."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "this did not happen"
        time.sleep(0.005)


def read_until(connection: socket.socket, text: str) -> str:
    """Read until a text has come, at most a minute."""
    received, end = b"", time.monotonic() + 60
    while text.encode() not in received:
        assert time.monotonic() < end, f"only this has come: {received.decode()}"
        part = connection.recv(65536)
        assert part, f"the connection was closed after {received.decode()}"
        received += part
    return received.decode()


@contextmanager
def running_server(run: Path, max_queue: int = 64, **access):
    """A server in a thread, with the model of a run in fp32. access: fields of Access."""
    access = Access(**{"host": "127.0.0.1", "api_key": "", "insecure": False, "allow_origin": (), **access})
    catalog = Catalog(run, run.parent)
    worker = Worker(serve.ModelLoader(catalog, serve.Settings(device="cpu", dtype="float32")), max_queue)
    worker.start()
    worker.wait_until_ready()
    listener = serve.listen("127.0.0.1", 0)
    server = serve.make_server(worker, catalog, access, LONG)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    jobs, submit = [], worker.submit
    worker.submit = lambda job: (submit(job), jobs.append(job))[0]
    try:
        yield Running(worker, catalog, listener.getsockname()[1], jobs)
    finally:
        server.should_exit = True
        thread.join()
        worker.join()
