"""The JSON of the API: the types of requests and answers, and what a request must satisfy.

``requests`` and ``answers`` have the types, which openapi.json describes. ``checks`` has the rules
that a type cannot state (a job's dependencies, a branch's name), each with a module for its matter.
"""
