"""Planning and running the reproduction: which runs make which numbers of the paper, and one run.

Knows what the scripts are called and which flags they take; reads no score but the dev scores that
choose a learning rate. What reads results is metatlp.report; the two meet in files (plan.json,
workflow.json and what the scripts write).
"""
