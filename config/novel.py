# GPT-2 small on one novel of 5 to 25 MB, for one GPU with 8 GB. (Not measured yet: no GPU was at hand. See docs/BENCHMARKS.md.)
out_dir = "out/novel"

# GPT-2 small
n_layer = 12
n_head = 12
n_embd = 768
block_size = 1024
dropout = 0.2  # a novel is small for a model of this size, and each passage is seen ten times

# 32 windows a step, in micro-batches of 8
batch_size = 8
gradient_accumulation_steps = 4
epochs = 10

warmup_iters = 100
eval_interval = 100  # also how often it saves
