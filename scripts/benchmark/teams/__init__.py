"""What a team would build instead: FastAPI with a queue, a flow of Node-RED, a command of adnanh/webhook.

Each verifies Port's signature, compares the health status, answers, and posts to Slack with retries, as the
documentation of what it uses advises. They run in an environment of their own, by `requirements.txt` here:
nothing in this folder imports the rest of the project.
"""
