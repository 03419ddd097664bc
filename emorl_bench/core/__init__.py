"""The vocabulary of the whole project: types, protocols, the cost ledger, random streams. It imports no other room."""
