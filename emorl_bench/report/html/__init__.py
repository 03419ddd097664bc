"""report.html: one file that one can explore, without a server and without network."""
