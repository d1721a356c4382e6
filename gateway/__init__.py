"""The coalition gateway: a hub through which coalition members refer a survivor to each other, person to person."""

__version__ = "0.1.0"
