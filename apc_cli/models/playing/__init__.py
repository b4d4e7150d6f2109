"""The role-play model: loading, prompting and merging it, and sampling its replies.

Begin with role_player.py. slot_sampling.py, above decoding.py and slots.py, is the fast loop;
sampling.py draws with transformers, for models that the loop does not read.
"""
