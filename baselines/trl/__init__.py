"""Training by TRL: `trl_policy` is the method, `training` its loop, and `settings` our update rules in TRL's terms."""
