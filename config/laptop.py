# A 4 M-parameter model in five minutes on two CPU cores. docs/recipe.md has the reasons.
out_dir = "out/laptop"

n_layer = 4
n_head = 4
n_embd = 256
block_size = 128
embeddings = "text"  # token vectors start from the text's bigrams: better in short runs
residual_multiplier = 0.0625  # factor on each block's output, which otherwise outgrows the embeddings
dropout = 0.0  # dropout takes a quarter of the speed on a CPU

batch_size = 16
gradient_accumulation_steps = 1
max_minutes = 4.7
epochs = 8  # ends the run earlier on a faster machine

learning_rate = 12e-3
adamw_learning_rate = 8e-3
decay_epochs = 0.5
muon_steps = 3  # a ninth more steps in the time on a CPU
warmup_share = 0.05

log_interval = 20
eval_interval = 200
compile = False  # needs a C++ compiler, which a laptop may not have
