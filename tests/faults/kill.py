#!/usr/bin/env python3
"""kill.py PART [COMMAND...]: each command is killed at every system call that matters; see kill.sh.

PART limits the cases of one command and one kind of kill (0: all; else they are spread evenly).  COMMAND: only these.
"""
import collections
import multiprocessing
import os
import sys

from commands import all_commands
from world import PACK, Failed, Template, World, files, packs, strays

# Before each call that reads, lists or changes anything; after each that may have changed something.
KILLS = {'before': ('kill-before', 'open,create,list,read,write,sync,name,remove'), 'after': ('kill-after', 'create,write,sync,name,remove')}
TOP = os.getcwd()


def one(case):
    index, kill, nth = case
    command = commands[index]
    world = World(template, f'{TOP}/world-{os.getpid()}', command.empty)
    what = '?'
    try:
        command.prepare(world)
        action, classes = KILLS[kill]
        r = command.run(world, {'CLASS': classes, 'NTH': nth, 'DO': action})
        what = r.what
        if not r.hits:
            command.success(world, r)
            return 'none', '', 0
        if not r.killed:
            raise Failed(f'exit {r.rc} instead of being killed')
        left = strays(world)
        if len(left) > 6 or sum(left.values()) > 4 * (PACK + (64 << 10)):
            raise Failed(f'leaves {left}')
        command.broken(world, r)
        return 'held', what, len(left)
    except Failed as e:
        return 'FAILED', f'{command.name} {kill} {nth} ({what}): {e}', 0


def measure(command, kill):
    """How many points there are, by a run that is not killed; and what it stores."""
    world = World(template, f'{TOP}/world-count', command.empty)
    command.prepare(world)
    before = packs(world)
    r = command.run(world, {'CLASS': KILLS[kill][1], 'NTH': 0})
    if hasattr(command, 'whole'):
        command.whole = packs(world)
    if r.rc != 0 and command.name != 'key remove last':
        raise Failed(f'{command.name}: exit {r.rc}: {r.err}')
    if r.rc == 0:
        command.success(world, r)
    return r.calls


def points(total, part):
    return range(1, total + 1) if not part or total <= part else sorted({1 + i * (total - 1) // (part - 1) for i in range(part)})


def main():
    global template, commands
    part, names = int(sys.argv[1]), sys.argv[2:]
    template = Template(TOP + '/template')
    commands = [c for c in all_commands(template) if c.kill and (not names or c.name in names)]
    totals = {(i, kill): measure(c, kill) for i, c in enumerate(commands) for kill in KILLS}
    failed, ran, leavings = [], collections.Counter(), collections.Counter()
    with multiprocessing.Pool(int(os.environ.get('WORKERS', '2'))) as pool:
        for i, c in enumerate(commands):
            for kill in KILLS:
                cases = [(i, kill, n) for n in points(totals[i, kill], part)]
                results = list(pool.imap_unordered(one, cases, 4))
                n = totals[i, kill]
                while not part and (not results or results[-1][0] != 'none'):   # until a run has no kill left
                    n += 1
                    results.append(one((i, kill, n)))
                for verdict, text, left in results:
                    ran[c.name, kill] += verdict != 'none'
                    leavings[c.name] = max(leavings[c.name], left)
                    if verdict == 'FAILED':
                        failed.append(text)
                        print(text, flush=True)
            print(f'{c.name}: killed before {ran[c.name, "before"]} and after {ran[c.name, "after"]} of '
                  f'{totals[i, "before"]} and {totals[i, "after"]} calls; at most {leavings[c.name]} temporary files left',
                  flush=True)
    print(f'kill matrix: {sum(ran.values())} kills, {len(failed)} failures')
    sys.exit(1 if failed else 0)


if __name__ == '__main__':
    main()
