"""The world of sums: prompts such as ``4 + 7 + 8 + 5 =``, and answers whose worth is a rule.

    answer := (step ",")* "so" number        step := total "+" term "=" total

``4 + 7 = 11 , 11 + 8 = 19 , so 24`` writes two of the three steps, and does the third without writing it. `prompts`
draws and splits the sums, and `judge` says what an answer is worth and which answers are best. In
`emorl_bench.building.sums`, `habits` is what the base models learn from, `base_models` trains them and `probe` measures
them.
"""
