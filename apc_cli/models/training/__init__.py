"""Training the role-play model: SFT, DPO and GRPO.

Begin with experience.py (SFT), preference.py (DPO) and reinforcement.py (GRPO). lean_training.py
and what it imports make their passes fast; within_memory.py makes them fit.
"""
