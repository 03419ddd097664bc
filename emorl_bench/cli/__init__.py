"""The programs, one file each under its own name; `harness` is what they share."""
