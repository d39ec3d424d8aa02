"""Writer of workflows/ and subgraphs/: descriptions in blueprints/ and templates/, and code that turns them into files.

Data flows one way: description -> placed -> file -> (texts, api). Each template is one function in its own file in
templates/.
"""
