"""The systems, one folder each, with the same rooms in all.

A folder's `__init__.py` declares what directs the system (`CONTROLS`) and imports neither torch nor numpy; its
`animating.py` holds the class, named as the folder is (`driving` -> `Driving`). `stillmotion.animate` finds them.
"""
