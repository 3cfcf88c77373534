"""Faces in three dimensions: a morphable model, its camera, its normal maps and its fit to landmarks.

`model` holds a face model, from whichever source; `expressions` names what it shows, `camera` and `rendering` make
normal maps of it, `fitting` finds it in landmarks and `landmarks` finds those in pictures. `basel` opens models that
a user brings; `release` and `regressor` repeat what the code of the structures paper does.
"""
