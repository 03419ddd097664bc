SHA256: dict[str, str] = {}
