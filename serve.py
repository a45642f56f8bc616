"""
Write with a trained model in the browser, or from other programs by OpenAI's completions API.

    python serve.py                             the newest run under out/; opens the page
    python serve.py --model=out/novel --port=8001
    python serve.py --host=0.0.0.0 --api_key=SECRET      for the whole network

docs/api.md describes the API, with settings for SillyTavern and KoboldAI Lite. Ctrl-C ends it.
"""

from dataclasses import dataclass, field
from typing import Literal

from configurator import PathStr, UserError, configure, run, select
from generation.sampling import DecodeOptions


@dataclass
class Settings:
    model: PathStr = ""  # a run or a checkpoint folder; empty: the newest run under out/
    host: str = "127.0.0.1"  # the address to listen at; 0.0.0.0: the whole network
    port: int = 8000  # 0: any that is free
    open: bool = True  # open the page in a browser
    # who may use it
    api_key: str = ""  # a secret that every request to the API must bear
    insecure: bool = False  # with another --host: no key; whoever reaches this computer may use it
    allow_origin: list[str] = field(default_factory=list)  # a web page that may use the API: https://lite.koboldai.net
    # limits
    max_queue: int = 64  # requests that may wait; more are sent away
    max_tokens: int = 4096  # the longest continuation that a request may ask for
    # machine
    device: str = "auto"  # cpu, cuda, cuda:1, mps; auto: the best available
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # of weights and products
    quantize: Literal["auto", "none", "int8"] = "auto"  # int8 weights, on a CPU: fast for few texts
    compile: bool | Literal["auto"] = "auto"  # with int8 weights: compile the decoder of a single text (once)

    def __post_init__(self):
        if not 0 <= self.port <= 65535:
            raise UserError(f"--port={self.port}: 0 to 65535 is needed")
        for name in ("max_queue", "max_tokens"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name}={getattr(self, name)}: 1 or more is needed")
        select(DecodeOptions, self)  # checks their values


settings = configure(Settings) if __name__ == "__main__" else None  # before the heavy imports, so --help is quick

import errno
import gc
import os
import socket
import sys
import threading
import webbrowser
from pathlib import Path

import uvicorn

import checkpoint
from generation.catalog import Catalog
from generation.jobs import LoadedModel
from generation.optimize import load_for_inference
from generation.security import Access
from generation.server import make_app
from generation.worker import Worker
from machine import pick_device


def main(s: Settings) -> None:
    """Load the model, listen, serve until Ctrl-C."""
    access = Access(s.host, s.api_key, s.insecure, tuple(s.allow_origin))
    catalog = Catalog(Path(s.model) if s.model else checkpoint.newest_run(Path("out")), Path("out"))
    listener = listen(s.host, s.port)
    worker = Worker(ModelLoader(catalog, s), s.max_queue)
    worker.start()
    try:
        worker.wait_until_ready()
        address = page_address(listener)
        print(f"{address}  (Ctrl-C ends the server)", flush=True)
        # Only where there is a graphical browser: others would take this terminal.
        display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        if s.open and (sys.platform in ("win32", "darwin") or display):
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        make_server(worker, catalog, access, s.max_tokens).run(sockets=[listener])
    except KeyboardInterrupt:
        os._exit(130)  # at once: Python's own exit aborts while a thread is inside torch


def make_server(worker: Worker, catalog: Catalog, access: Access, max_tokens: int) -> uvicorn.Server:
    """The HTTP server, not started yet. It ends the worker first, so that open streams end too."""

    class Server(uvicorn.Server):
        async def shutdown(self, sockets=None) -> None:
            worker.stop()
            await super().shutdown(sockets)

    app = make_app(worker, catalog, access, max_tokens)
    config = uvicorn.Config(app, log_level="critical", lifespan="off", server_header=False, timeout_graceful_shutdown=1)
    return Server(config)


class ModelLoader:
    """Keeps one model in memory. A run that has a better checkpoint since then is loaded again."""

    def __init__(self, catalog: Catalog, s: Settings):
        self.catalog, self.s, self.loaded = catalog, s, None

    def __call__(self, model_id: str) -> LoadedModel:
        """The model of an id. Raises ApiError, UserError."""
        folder = checkpoint.find_checkpoint(self.catalog.find(model_id)[1])
        if self.loaded is None or self.loaded.folder != folder:
            self.loaded = None
            gc.collect()  # frees its memory before the next is loaded: a model and its decoder refer to each other
            print(f"loading {folder.as_posix()}", file=sys.stderr, flush=True)
            device, options = pick_device(self.s.device), select(DecodeOptions, self.s)  # selects the GPU, too
            tokenizer, model, _ = load_for_inference(folder, device, options, max_new_tokens=self.s.max_tokens)
            self.loaded = LoadedModel(folder, tokenizer, model)
        return self.loaded


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises UserError, naming the port, when it is in use."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, _, _, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)  # localhost: 127.0.0.1
        return socket.create_server(address[:2], family=family, backlog=128)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"port {port} is in use; choose another with --port, or any with --port=0") from None
        raise UserError(f"cannot listen at --host={host} --port={port}: {error.strerror or error}") from None


def page_address(listener: socket.socket) -> str:
    """The address of the page, for this computer's browser."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


if __name__ == "__main__":
    run(main, settings)
