"""The frozen base model: how it is loaded, reads prompts, carries low-rank adapters, and re-scores given answers.

`backbone` is the interface that both families share, `seq2seq` and `causal`. `lora` puts adapters on a model, `loading`
reads one from disk, `prompting` turns a prompt into tokens. `sharding` and `gradient_checkpointing` save memory.
Nothing here knows how text is generated: that is `decoding`.
"""
