"""``bench quality``: does a world obey, and does it stay sharp?"""
