# GPT-2 small on one novel of 5 to 25 MB, for a GPU with 8 GB. (Not measured on a GPU yet: see docs/BENCHMARKS.md.)
out_dir = "out/novel"

# GPT-2 small
n_layer = 12
n_head = 12
n_embd = 768
block_size = 1024
dropout = 0.2  # a novel is little text for a model of this size

# 32 windows per step, in micro-batches of 8
batch_size = 8
gradient_accumulation_steps = 4
epochs = 10

warmup_iters = 100
eval_interval = 100  # it also saves a checkpoint this often
