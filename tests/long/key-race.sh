# Two who remove each other's key slots, or change their secrets, in every order of storage operations that can matter, also with
# either dead before any of its changes; tests/unit/test_slots_race.c.
"$BUILD/unit/test_slots_race" all
