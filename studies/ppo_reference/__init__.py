"""PPO against TRL's last PPO, end to end: the same model, adapter at its start, prompts, scorers and settings.

TRL ships PPO up to 1.12, and this project needs 1.16, so the two halves run in environments of their own and meet in
JSON. Each leaves a learning curve by seed: mean reward and KL of every step's fresh answers, one for each prompt.

    python -m studies.ppo_reference.ours --dir results/ppo_reference
    TRL_ENV/bin/python -m studies.ppo_reference.theirs --dir results/ppo_reference   # in the checkout
    python -m studies.ppo_reference.compare --dir results/ppo_reference

TRL_ENV: ``pip install torch==2.13.0``, then ``pip install -c constraints.txt trl==1.12.0 peft transformers hydra-core
platformdirs filelock moocore pyarrow scipy``, with the line of trl taken out of constraints.txt.

What is not the same: sampling draws from other streams and prompts come in another order, so curves agree in
distribution alone. TRL's PPO puts an answer's reward on the token after its end and lets the value of that one count
too, whitens with Bessel's factor, and does not clip gradients; clipping is therefore off in ours.
"""
