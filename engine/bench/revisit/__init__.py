"""``bench revisit``: does a world remember places that are left and seen again?"""
