"""The machine that engines run on: processor, memory and GPU, and what GPUs can do by name.

A card's name comes in, if anything; facts for the record of a measurement go out. Cards and their published peaks
are data files with their sources.
"""
