# Two who remove each other's key slots, or change their secrets, in every order of storage operations that can matter, and in
# some also with one dying; tests/unit/test_slots_race.c.  tests/long/key-race.sh leaves none out.
"$BUILD/unit/test_slots_race" most
