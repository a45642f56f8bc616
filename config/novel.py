# GPT-2 small on one novel of 1 to 25 MB, for a GPU with 8 GB (docs/BENCHMARKS.md has what was measured).
out_dir = "out/novel"

# GPT-2 small
n_layer = 12
n_head = 12
n_embd = 768
block_size = 1024
embeddings = "text"  # token vectors start from the text's bigrams, positions as sinusoids
residual_multiplier = 0.0625  # factor on each block's output, which otherwise outgrows the embeddings
dropout = 0.1

# by the length of the text (docs/recipe.md): 8 to 32 windows per step, 8 epochs or 600 steps
batch_size = 8
gradient_accumulation_steps = "auto"
epochs = "auto"
decay_epochs = 0.5
learning_rate = 12e-3  # lower rates ended much higher (docs/recipe.md)
adamw_learning_rate = 2e-3  # a wide model's token vectors need a lower rate (docs/recipe.md)
warmup_share = 0.05

eval_interval = 100  # steps between validations; each saves a checkpoint
patience = 5  # validations without a new best
