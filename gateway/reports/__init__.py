"""Law apart from consent: the duty to report, a danger told at once, what is asked with the force of law."""
