"""Shipped for whoever adds a party or a region: the adapter contract suite, canaries, a clock to set, and real databases for tests."""
