"""Judges: discriminators, what reads them fast, and the scores made of what they say.

Begin with scorer.py; below it lie discriminator.py, networks.py, and what packs and speeds them up.
engines.py scores files; discriminator_training.py fits a judge.
"""
