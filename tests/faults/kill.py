#!/usr/bin/env python3
"""kill.py [--changes] [--plain] [--part N] [--device PATH] [COMMAND...]: each command is killed at every system call that matters.

--changes: only before calls that change something; what a kill after one leaves is what one before the next leaves.
--plain: as on a file system without O_TMPFILE.  --part: at most N kills of one command and kind, spread evenly.  COMMAND: only these.
"""
import argparse
import collections
import multiprocessing
import os
import shutil
import sys

from commands import all_commands
from world import PACK, Failed, Template, World, packs, spread, strays

# Before each call that reads, lists or changes anything; after each that may have changed something.
KILLS = {'before': ('kill-before', 'open,create,list,read,write,sync,name,remove'),
         'after': ('kill-after', 'create,write,sync,name,remove')}
CHANGES = {'before': ('kill-before', 'create,write,sync,name,remove')}
TOP = os.getcwd()


def one(case):
    index, kill, nth = case
    command = commands[index]
    what = '?'
    try:
        world = World(template, f'{TOP}/world-{os.getpid()}', command.empty)
        command.prepare(world)
        action, classes = kills[kill]
        r = command.run(world, {'CLASS': classes, 'NTH': nth, 'DO': action, **plain})
        what = r.what
        if not r.hits:
            return 'none', '', 0
        if not r.killed:
            raise Failed(f'exit {r.rc} instead of being killed: {r.err.strip()}')
        left = strays(world)
        if len(left) > 6 or sum(left.values()) > 4 * (PACK + (64 << 10)):
            raise Failed(f'leaves {left}')
        command.broken(world, r)
        return 'held', '', len(left)
    except Exception as e:  # a case that can't be judged has failed, too
        return 'FAILED', f'{command.name}, {kill} call {nth} ({what}): {e if isinstance(e, Failed) else repr(e)}', 0


def measure(command, kill):
    """How many calls there are, by a run that is not killed; and what it stores."""
    world = World(template, f'{TOP}/world-count', command.empty)
    command.prepare(world)
    r = command.run(world, {'CLASS': kills[kill][1], 'NTH': 0, **plain})
    if hasattr(command, 'whole'):
        command.whole = packs(world)
    if command.refused:
        command.broken(world, r)
    elif r.rc != 0:
        raise Failed(f'{command.name}: exit {r.rc}: {r.err}')
    else:
        command.success(world, r)
    return r.calls


def every(pool, index, kill, total, part):
    """All kills of one command and kind, until a run has none left."""
    results = list(pool.imap_unordered(one, [(index, kill, n) for n in spread(total, part)], 4))
    while not part and (not results or results[-1][0] != 'none'):
        total += 1
        results.append(one((index, kill, total)))
    return [r for r in results if r[0] != 'none']


def main():
    global template, commands, kills, plain
    p = argparse.ArgumentParser()
    p.add_argument('--changes', action='store_true')
    p.add_argument('--plain', action='store_true')
    p.add_argument('--part', type=int, default=0)
    p.add_argument('--device')
    p.add_argument('commands', nargs='*')
    a = p.parse_args()
    plain = {'PLAIN': 1} if a.plain else {}
    kills = CHANGES if a.changes else KILLS
    shutil.rmtree(TOP + '/template', ignore_errors=True)
    template = Template(TOP + '/template')
    commands = [c for c in all_commands(template, a.device) if c.kill and (not a.commands or c.name in a.commands)]
    totals = {(i, kill): measure(c, kill) for i, c in enumerate(commands) for kill in kills}
    failures, ran = 0, 0
    alone = collections.namedtuple('Pool', 'imap_unordered')(lambda f, cases, _: map(f, cases))
    with multiprocessing.Pool(int(os.environ.get('WORKERS', '2'))) as pool:
        for i, c in enumerate(commands):
            told, most = [], 0
            for kill in kills:
                results = every(alone if c.name == 'restore device' else pool, i, kill, totals[i, kill], a.part)
                ran += len(results)
                most = max([most] + [left for _, _, left in results])
                for text in [text for verdict, text, _ in results if verdict == 'FAILED']:
                    failures += 1
                    print(text, flush=True)
                told.append(f'{len(results)} kills {kill} {totals[i, kill]} calls')
            print(f'{c.name}: {", ".join(told)}; at most {most} temporary files left', flush=True)
    print(f'kill matrix: {ran} kills, {failures} failures')
    sys.exit(1 if failures else 0)


if __name__ == '__main__':
    main()
