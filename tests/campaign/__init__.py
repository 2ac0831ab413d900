"""Tries to break things, with counts: kills, damaged and forged files, wrong calls, full disks, cut links.

    python -m tests.campaign --minutes 30              all drivers in turn, until the time is over
    python -m tests.campaign files calls --cases 500   some drivers, so many cases each

Every case follows from its number alone, so a fault is seen again by its number. The tests run a few of each.
"""
