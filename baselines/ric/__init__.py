"""Rewards in context: `rewards_in_context` is the method, `prompting` its words, `answers` what it has collected."""
