"""Weightings whose weights change while training goes on."""
