"""
Knowledge distillation (Hinton et al. 2015, arXiv:1503.02531): a model learns the predictions of trained models.

On one novel, models that differ only in their seed memorize different things. The mean of their predictions is better
than each of them, and a model that learns this mean memorizes less than one that learns which token came.
"""

import torch

import checkpoint
from configurator import UserError
from dataset import Corpus
from training.init_model import check_vocabulary


class Teachers:
    """Trained models of one vocabulary; or none."""

    def __init__(self, folders: str, corpus: Corpus, block_size: int, device: torch.device):
        """folders: of runs or checkpoints, separated by commas; of a run, its best checkpoint is used.

        Raises UserError for a folder without a model, for another vocabulary, and for a window below block_size.
        """
        self.sources, self.models = [], []
        for folder in split_folders(folders):
            source = checkpoint.find_checkpoint(folder)
            check_vocabulary(source, corpus)
            model = checkpoint.load_pretrained(source).requires_grad_(False).to(device)
            if model.config.block_size < block_size:
                raise UserError(
                    f"--teachers: {source} has {model.config.block_size} positions, so"
                    f" --block_size={model.config.block_size} at most"
                )
            self.sources.append(source)
            self.models.append(model)

    def __len__(self) -> int:
        return len(self.models)

    def __str__(self) -> str:
        """A line for the summary of a run."""
        names = ", ".join(source.as_posix() for source in self.sources)
        return f"teachers {names}; the training loss is the cross-entropy with their mean prediction"

    @torch.no_grad()
    def probabilities(self, idx: torch.Tensor) -> torch.Tensor:
        """idx (B, T) -> the mean of the models' probabilities of each next token, (B, T, V) fp32."""
        return sum(model(idx)[0].float().softmax(-1) for model in self.models) / len(self.models)

    def flops_per_token(self) -> int:
        """Floating-point operations per token: of the forward passes, a third of those of training."""
        return sum(model.flops_per_token() for model in self.models) // 3


def split_folders(folders: str) -> list[str]:
    """Split "out/a, out/b" into ["out/a", "out/b"]."""
    return [name.strip() for name in folders.split(",") if name.strip()]
