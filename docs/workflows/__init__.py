"""The writer of workflows/ and subgraphs/: descriptions in blueprints/ and templates/, and what makes files of them.

Data flows one way: description -> placed -> file -> (texts, api). A template is one function in one file of templates/.
"""
