"""The study of docs/study.md: what its sweeps say of the published claims."""
