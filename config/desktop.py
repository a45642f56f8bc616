# An ensemble of six 4 M-parameter models in one GPT: up to an hour on two CPU cores. docs/recipe.md has the reasons.
out_dir = "out/desktop"

n_layer = 4
n_head = 24
n_embd = 1536
members = 6  # of width 256, with 4 heads each
block_size = 128
embeddings = "text"
residual_multiplier = 0.0625
dropout = 0.0

batch_size = 16
gradient_accumulation_steps = 1
max_minutes = 60
epochs = 8  # ends the run earlier on a faster machine

learning_rate = 12e-3
adamw_learning_rate = 8e-3
decay_epochs = 0.5
muon_steps = 3
warmup_share = 0.05

log_interval = 20
eval_interval = 200
compile = False  # needs a C++ compiler, which a desktop may not have
