# The recipe of the GPT2-Chinese project that this one grew from, for comparison.
# Its vocabulary: python prepare.py book.txt --vocab=vocab_small.txt
out_dir = "out/original"

n_layer = 10
n_head = 12
n_embd = 768
block_size = 1024
dropout = 0.1

batch_size = 2
gradient_accumulation_steps = 4
stride = 512
epochs = 15

optimizer = "adamw"
learning_rate = 1.5e-4
weight_decay = 0.0
beta2 = 0.999
warmup_iters = 2000
lr_decay = "linear"

dtype = "float32"
compile = False
