# A small model in five minutes on two CPU cores. What was tried for it: docs/LOG.md
out_dir = "out/laptop"

n_layer = 3
n_head = 3
n_embd = 192
block_size = 128
dropout = 0.0

batch_size = 16
gradient_accumulation_steps = 1
max_minutes = 4.7

learning_rate = 8e-3
adamw_learning_rate = 6e-3
warmup_iters = 50

log_interval = 50
eval_interval = 400
compile = False
