"""The method on trial: do the maps know, what does each way of mixing bring, and is it the gradient that brings it?"""
