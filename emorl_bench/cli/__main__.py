"""``python -m emorl_bench.cli``: the same as ``emorl-bench``, for where no program is installed."""

from emorl_bench.cli.bench import main

if __name__ == "__main__":
    main()
