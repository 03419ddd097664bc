"""From run directories to tables, figures and a report. No method is known by name."""
