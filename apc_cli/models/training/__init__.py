"""Training the role-play model: SFT, DPO and GRPO.

Begin with experience.py (SFT), preference.py (DPO) and reinforcement.py (GRPO, whose replies come
from rollouts.py); trainers.py is what all go through. lean_training.py and what it imports make
passes fast; within_memory.py makes them fit.
"""
