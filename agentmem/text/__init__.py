"""What a text says to keyword search: terms, similar words, function words, the words and dates of a question.

Pure functions of text; nothing here knows records, scopes or stores. May import ``types``.
"""
