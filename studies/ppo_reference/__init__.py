"""PPO against TRL's last PPO, end to end: the same model, initial adapter, prompts, scorers and settings.

TRL has PPO up to version 1.12, and this project needs 1.16. So the two halves run in separate environments and exchange
JSON. Each half leaves a learning curve for each seed: the mean reward and KL of every step's fresh answers, one for
each prompt.

    python -m studies.ppo_reference.ours --dir results/ppo_reference
    TRL_ENV/bin/python -m studies.ppo_reference.theirs --dir results/ppo_reference   # in the checkout
    python -m studies.ppo_reference.compare --dir results/ppo_reference

TRL_ENV: ``pip install torch==2.13.0``, then ``pip install -c constraints.txt trl==1.12.0 peft transformers hydra-core
platformdirs filelock moocore pyarrow scipy``. Take the line of trl out of constraints.txt before that.

What is not the same: sampling draws from other random streams, and prompts come in another order. So curves agree in
distribution only. TRL's PPO puts an answer's reward on the token after its end, and the value of that token counts too.
It whitens with Bessel's factor. It does not clip gradients, so clipping is off in our half.
"""
