"""Studies of questions that the results table does not answer: ``python -m studies.NAME``. Nothing imports them."""
