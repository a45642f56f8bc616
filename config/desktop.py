# A 12 M-parameter model in an hour on a CPU, or less. docs/recipe.md has the reasons. (The full run is not measured.)
out_dir = "out/desktop"

n_layer = 6
n_head = 6
n_embd = 384
block_size = 256
dropout = 0.0

batch_size = 8
gradient_accumulation_steps = 1
max_minutes = 60
epochs = 8  # ends the run earlier on a faster machine: more epochs were worse

learning_rate = 8e-3
adamw_learning_rate = 6e-3
decay_epochs = 0.5
muon_steps = 3
warmup_share = 0.05

log_interval = 20
eval_interval = 200
compile = False  # needs a C++ compiler, which a desktop may not have
