"""The role-play model: loading, prompting and merging it, and sampling its replies.

Begin with role_player.py. sampling.py draws with transformers; slot_sampling.py, above decoding.py
and slots.py, is the faster loop of GPUs.
"""
