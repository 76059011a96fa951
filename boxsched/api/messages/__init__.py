"""The JSON of the API: the types of requests and answers, and the checks of requests.

``requests`` and ``answers`` contain the types, which openapi.json describes. ``checks`` and the
other modules contain the rules that a type cannot express, such as the rules for a branch's name.
"""
