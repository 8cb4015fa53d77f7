# Two who remove each other's key slot, in every order of storage operations that can matter; tests/unit/test_slots_race.c.
"$BUILD/unit/test_slots_race" all
