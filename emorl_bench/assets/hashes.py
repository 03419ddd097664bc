"""The sha256 of every shipped file. Written by `emorl-assets build --from-code --ship`."""

SHA256: dict[str, str] = {
    "reflections/scorers/ngrams.safetensors": "9134fbe6c0aec71751b50030b05b88cd2f036de9faeb4df9551881509ee8e8ee",
    "reflections/scorers/reader.safetensors": "5030847489d00c68fa8880fcbc2174b3bed37ed288a82e4909f363bc9567cd17",
    "reflections/scorers/tokenizer.json": "0130a6506f6cdd3cf4b11b97fb8d8d32edcb9413e9b003f1a186e21f0e90b56c",
    "reflections/scorers/tokenizer_config.json": "b7fa679570b2251c860f19c39632c85853f8e173501fa562f6e8cd9f67421211",
    "reflections/tiny_gpt2/config.json": "35a38af245efdb55ee04b455cfdf05850cf9771b99be13c997124429f2fbc62b",
    "reflections/tiny_gpt2/generation_config.json": "153050a4373005b672c28964748f5c9089b0e425ecde6f40d4ce2e033b639ff7",
    "reflections/tiny_gpt2/model.safetensors": "d09a416540a65691807bcd7c4074c3a8fb95ee85f1a1a87ec41fbfb27edee1ce",
    "reflections/tiny_gpt2/tokenizer.json": "0130a6506f6cdd3cf4b11b97fb8d8d32edcb9413e9b003f1a186e21f0e90b56c",
    "reflections/tiny_gpt2/tokenizer_config.json": "b7fa679570b2251c860f19c39632c85853f8e173501fa562f6e8cd9f67421211",
    "reflections/tiny_t5/config.json": "10114e9ae27a44ac3a2f1f2ea7d38c7be44a8e6d614cfe2ee347087cf6c14c4c",
    "reflections/tiny_t5/generation_config.json": "48835e3d207d2cc33a2c9793d8ba053bf96d19fb444f6e6403b8cde00437cccd",
    "reflections/tiny_t5/model.safetensors": "b9449b326d342cb9bd5b771618c8766933d78f26d7405c67a12d9f18efba731e",
    "reflections/tiny_t5/tokenizer.json": "0130a6506f6cdd3cf4b11b97fb8d8d32edcb9413e9b003f1a186e21f0e90b56c",
    "reflections/tiny_t5/tokenizer_config.json": "b7fa679570b2251c860f19c39632c85853f8e173501fa562f6e8cd9f67421211",
    "sums/tiny_gpt2/config.json": "7cc0a0723e28a46d79b406edf93508b2a4ea90b1c8fa30eca29bff6eb90bc918",
    "sums/tiny_gpt2/generation_config.json": "153050a4373005b672c28964748f5c9089b0e425ecde6f40d4ce2e033b639ff7",
    "sums/tiny_gpt2/model.safetensors": "84fe5f36c6b5fa4e72d6bc6621a5cc8ab28db02a709c86aa5b0896ffce708315",
    "sums/tiny_gpt2/tokenizer.json": "5fb19160498f1ded56ee55daf4dcd9b52f1a3349c0b365191f66e41058436f0c",
    "sums/tiny_gpt2/tokenizer_config.json": "9afba75d740ee1f317907a4f677c7ed5a65466e49c649ca107f1f063a3f1c419",
}
