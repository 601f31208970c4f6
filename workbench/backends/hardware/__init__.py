"""The machine that engines run on: processor, memory and GPU, and what GPUs can do by name.

Nothing comes in but a card's name; facts for the record of a measurement go out. Cards and their published peaks
are data files with their sources.
"""
