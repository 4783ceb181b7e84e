"""Figures and widgets: they take results and draw them, and compute nothing that is a result.

Devices: arrays and tensors come from anywhere.
"""
