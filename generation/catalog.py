"""The models that a server offers: the runs under out/, and the one that --model names."""

from pathlib import Path

import torch

import checkpoint
from configurator import UserError
from generation.completions import ApiError
from model import GPT


class Catalog:
    """Model ids and their folders. An id is a run's name, and the only way from a request to a folder."""

    def __init__(self, default: Path, out: Path):
        """default: a run or a checkpoint; it comes first. out: the folder of the runs."""
        self.default, self.out = default, out
        within = default.absolute()
        self.default_id = f"{within.parent.name}/{within.name}" if within.name.startswith("ckpt-") else within.name

    def folders(self) -> dict[str, Path]:
        """Id -> folder of a run, or of a checkpoint. The default first, then the newest."""
        saved = {run: found[-1].stat().st_mtime for run in self.out.glob("*") if (found := checkpoint.checkpoints(run))}
        newest_first = sorted(saved, key=saved.get, reverse=True)
        return {self.default_id: self.default, **{run.name: run for run in newest_first if run.name != self.default_id}}

    def find(self, model_id: str) -> tuple[str, Path]:
        """The id and the folder of a model; "" is the default. Raises ApiError for an unknown id."""
        folders = self.folders()
        model_id = model_id or self.default_id
        if model_id not in folders:
            raise ApiError(
                404, f"there is no model {model_id!r}; there are {', '.join(folders)}", "model", "model_not_found"
            )
        return model_id, folders[model_id]

    def list(self) -> list[dict]:
        """OpenAI's model objects, with facts for the page. Runs that cannot be read are left out."""
        models = []
        for model_id, folder in self.folders().items():
            try:
                models.append(self.describe(model_id, folder))
            except (UserError, OSError):  # damaged, or pruned by training at this moment
                continue
        return models

    def describe(self, model_id: str, folder: Path) -> dict:
        """The model object of one run. Raises UserError, OSError."""
        path = checkpoint.find_checkpoint(folder)
        config, metadata = checkpoint.read_config(path), checkpoint.read_metadata(path)
        with torch.device("meta"):  # no memory
            parameters = GPT(config, init=False).num_params()
        return {
            "id": model_id,
            "object": "model",
            "created": int(path.stat().st_mtime),
            "owned_by": "local",
            "name": model_id,
            "step": metadata.get("step"),
            "parameters": parameters,
            "context_window": config.block_size,
            "bits_per_char": metadata.get("bits_per_char"),
            "default": model_id == self.default_id,
        }
