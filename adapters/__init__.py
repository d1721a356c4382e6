"""One folder per party: its manifest, its examples and, where the manifest is not enough, its adapter."""
