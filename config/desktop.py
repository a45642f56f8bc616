# A 9 M-parameter model on a CPU. With teachers (an hour in all) it gains more than by a longer run alone:
#   python train.py config/laptop.py
#   python train.py config/laptop.py --out_dir=out/teacher2 --seed=2
#   python train.py config/laptop.py --out_dir=out/teacher3 --seed=3
#   python train.py config/laptop.py --out_dir=out/teacher4 --seed=4
#   python train.py config/desktop.py --teachers=out/laptop,out/teacher2,out/teacher3,out/teacher4 --epochs=9
# docs/recipe.md has the reasons and the figures.
out_dir = "out/desktop"

n_layer = 4
n_head = 6
n_embd = 384
block_size = 128
dropout = 0.0

batch_size = 16
gradient_accumulation_steps = 1
max_minutes = 60
epochs = 5  # without teachers more epochs memorize the text

learning_rate = 8e-3
adamw_learning_rate = 6e-3
decay_epochs = 0.5
muon_steps = 3
warmup_share = 0.05

log_interval = 20
eval_interval = 200
compile = False  # needs a C++ compiler, which a desktop may not have
