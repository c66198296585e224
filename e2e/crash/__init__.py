"""The crash harness: programs are killed with SIGKILL while keys are pushed; every key, answer and record is judged.

`./test crash --help` says how to run it.
"""
