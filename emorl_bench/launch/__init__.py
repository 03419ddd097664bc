"""How the jobs of a sweep are started: Hydra's launchers, its sweeper, and a process for each job."""
