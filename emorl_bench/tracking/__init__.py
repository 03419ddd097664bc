"""Where the metrics of a run are recorded: its directory, and views of it."""
