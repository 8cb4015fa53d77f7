#!/usr/bin/env python3
"""fail.py [--part N] [--classes A,B] [--first] [--device PATH] [COMMAND...]: in each command the Nth call of each class fails.

--first: of each class only the first fault.  --part: at most N cases of one command, class and fault, spread evenly (SEED says where they begin).  COMMAND: only these.
All messages go to the file `messages`, with how often each came, to be read by people.
"""
import argparse
import collections
import errno
import multiprocessing
import os
import shutil
import re
import sys
import zlib

from commands import all_commands
from world import Failed, Template, World, run, spread

# Class of calls: the faults.  Those in RETRIED must not be noticed at all.
FAULTS = {
    'alloc': [('error', 'ENOMEM', False), ('error', 'ENOMEM', True)],
    'libcrypto': [('error', 'ENOMEM', False), ('error', 'ENOMEM', True)],
    'open': [('error', 'EIO', False), ('error', 'EMFILE', True), ('error', 'EINTR', False)],
    'create': [('error', 'EIO', False), ('error', 'EMFILE', True), ('error', 'ENOSPC', True), ('error', 'EINTR', False)],
    'stat': [('error', 'EIO', False)],
    'list': [('error', 'EIO', False)],
    'read': [('error', 'EIO', False), ('error', 'EINTR', False), ('short', 'EIO', False), ('short-error', 'EIO', False),
             ('short', 'EIO', True)],
    'write': [('error', 'ENOSPC', True), ('error', 'EIO', False), ('error', 'EINTR', False), ('short', 'EIO', False),
              ('short-error', 'ENOSPC', False), ('short', 'EIO', True)],
    'sync': [('error', 'EIO', False), ('error', 'ENOSPC', False), ('error', 'EINTR', False), ('done', 'EIO', False)],
    'name': [('error', 'ENOSPC', True), ('error', 'EIO', False), ('done', 'EIO', False)],
    'remove': [('error', 'EIO', False)],
    'fopen': [('error', 'EIO', False)],
    'seek': [('error', 'EIO', False)],
    'thread': [('error', 'EAGAIN', False), ('error', 'EAGAIN', True)],
    'ioctl': [('error', 'EIO', False), ('error', 'EINTR', False)],
}
# Thousands of calls when libcrypto starts, the same in every command: all of them in one, in the others so many.
START = {'libcrypto': 40}
WHOLE = 'check data'
RETRIED = {'EINTR', 'short'}
SAID = {   # what the message says
    'ENOMEM': r'memory', 'EIO': r'Input/output error', 'ENOSPC': r'No space left', 'EMFILE': r'Too many open files',
    'EAGAIN': r'temporarily unavailable|threads?\b',
}
NEVER = r'Bad address|Success|\(null\)|Interrupted system call|Bad file descriptor|Invalid argument|internal'
TOP = os.getcwd()
SEED = os.environ.get('SEED', '1')


def told(command, fault, r):
    """A clear error, and the exit code that the manual has for it."""
    if r.rc < 0 or r.rc in (134, 139):
        raise Failed(f'crashes: exit {r.rc}: {r.err.strip()}')
    if fault[0] in RETRIED or fault[1] in RETRIED:
        raise Failed(f'exit {r.rc} for what must be tried again: {r.err.strip()}')
    if r.rc not in command.codes:
        raise Failed(f'exit {r.rc}, not one of {command.codes}: {r.err.strip()} {r.out[:300]!r}')
    if r.rc == 6 and fault[1] != 'EIO':
        raise Failed(f'damage that is none: {r.err.strip()} {r.out[:1000]!r}')
    text = r.err + (r.out.decode(errors='replace') if r.rc == 6 else '') + (r.out.decode(errors='replace') if '"error"' in r.out.decode(errors='replace') else '')
    lines = re.findall(r'kedge: error: (.*)|"message":"(.*?)"', text)
    if len(lines) != 1 and r.rc == 1:
        raise Failed(f'{len(lines)} errors: {r.err.strip()!r} {r.out[:300]!r}')
    if re.search(NEVER, text):
        raise Failed(f'a message that says nothing: {text.strip()}')
    if not re.search(SAID[fault[1]], text):
        raise Failed(f'the cause is not told: {text.strip()}')
    if lines and not re.search(r'^  hint: |"hint":"', text, re.M):
        raise Failed(f'nothing says what to do: {text.strip()}')
    return text


def plain(text):
    """The message without what differs from case to case."""
    text = text.replace(TOP, '')
    text = re.sub(r'/world-\d+|/template', '', text)
    text = re.sub(r'[0-9a-f]{12,}|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d', '#', text)
    return re.sub(r'\d+', '9', text).strip()


def one(case):
    index, cls, fault, nth = case
    command = commands[index]
    what, action, number, on = '?', *fault
    try:
        world = World(template, f'{TOP}/world-{os.getpid()}', command.empty)
        command.prepare(world)
        world.may_leave = cls == 'remove'
        f = {'CLASS': cls, 'NTH': nth, 'DO': action, 'ERRNO': getattr(errno, number)}
        if on:
            f['ON'] = 1
        r = command.run(world, f)
        what = r.what
        if not r.hits:
            return 'none', '', ''
        if command.refused and r.rc == 1 and command.refused in r.err and 'warning' not in r.err:
            command.broken(world, r)
            return 'right', '', plain(r.err)
        if r.rc == 0:
            if re.search(NEVER, r.err):
                raise Failed(f'a message that says nothing: {r.err.strip()}')
            command.success(world, r)
            command.survived(world, r)
            return 'right', '', plain(r.err)
        text = plain(told(command, fault, r))
        command.broken(world, r)
        return 'error', '', text
    except Exception as e:  # a case that can't be judged has failed, too
        text = e if isinstance(e, Failed) else repr(e)
        return 'FAILED', f'{command.name}, {cls} {action} {number}{" on" if on else ""} {nth} ({what}): {text}', ''


def full(case):
    """Standard output on a full disk: whoever prints anything says so."""
    command = commands[case]
    try:
        world = World(template, f'{TOP}/world-{os.getpid()}', command.empty)
        command.prepare(world)
        with open('/dev/full', 'wb') as f:
            r = run([*command.options(), *command.args(world)], world.dir, stdout=f)
        if r.rc == 0:
            prints = command.run(World(template, world.dir, command.empty), ok=False) if command.kill is False else None
            if prints is not None and prints.rc == 0 and prints.out:
                raise Failed('exit 0, though nothing of the output was written')
            return 'right', '', ''
        if command.refused and command.refused in r.err:
            return 'right', '', ''
        if r.rc != 1 or 'No space left' not in r.err:
            raise Failed(f'exit {r.rc}: {r.err.strip()}')
        command.broken(world, r)
        return 'error', '', plain(r.err)
    except Exception as e:
        return 'FAILED', f'{command.name}, output to /dev/full: {e if isinstance(e, Failed) else repr(e)}', ''


def measure(command, cls):
    world = World(template, f'{TOP}/world-count', command.empty)
    command.prepare(world)
    r = command.run(world, {'CLASS': cls, 'NTH': 0})
    if r.rc == 0:
        command.success(world, r)
    return r.calls


def every(pool, index, cls, fault, total, part):
    """All calls of one command and class with one fault, until a run has no fault left."""
    offset = zlib.crc32(f'{SEED} {index} {cls} {fault}'.encode()) % max(total, 1)
    results = list(pool.imap_unordered(one, [(index, cls, fault, n) for n in spread(total, part, offset)], 4))
    while not part and (not results or results[-1][0] != 'none'):
        total += 1
        results.append(one((index, cls, fault, total)))
    return [r for r in results if r[0] != 'none']


def tell(name, results, total):
    """Prints one line, and all failures; how many there were of each."""
    n = collections.Counter(r[0] for r in results)
    for verdict, text, _ in results:
        if verdict == 'FAILED':
            print(text, flush=True)
    print(f'{name}: {len(results)} faults in {total} calls: {n["right"]} right all the same, {n["error"]} clear errors, '
          f'{n["FAILED"]} failed', flush=True)
    return len(results), n['FAILED']


def main():
    global template, commands
    p = argparse.ArgumentParser()
    p.add_argument('--part', type=int, default=0)
    p.add_argument('--classes', default=','.join(FAULTS))
    p.add_argument('--first', action='store_true')
    p.add_argument('--device')
    p.add_argument('commands', nargs='*')
    a = p.parse_args()
    shutil.rmtree(TOP + '/template', ignore_errors=True)
    template = Template(TOP + '/template')
    commands = [c for c in all_commands(template, a.device) if not a.commands or c.name in a.commands]
    totals = {(i, cls): measure(c, cls) for i, c in enumerate(commands) for cls in a.classes.split(',')}
    sums, messages = [], collections.Counter()
    alone = collections.namedtuple('Pool', 'imap_unordered')(lambda f, cases, _: map(f, cases))
    with multiprocessing.Pool(int(os.environ.get('WORKERS', '2'))) as pool:
        for i, c in enumerate(commands):
            for cls in a.classes.split(','):
                results = []
                part = min(START.get(cls, a.part) if c.name != WHOLE else a.part, a.part or sys.maxsize)
                for fault in FAULTS[cls][:1 if a.first else None]:
                    some = every(alone if c.name == 'restore device' else pool, i, cls, fault, totals[i, cls], part)
                    messages.update((c.name, cls, fault[1], message) for _, _, message in some if message)
                    results += some
                if results:
                    sums.append(tell(f'{c.name}: {cls}', results, totals[i, cls]))
        sums.append(tell('output to /dev/full', list(pool.imap_unordered(full, range(len(commands)))), len(commands)))
    with open('messages', 'w') as f:
        for (name, cls, number, message), n in sorted(messages.items()):
            f.write(f'{n} {name}, {cls} {number}:\n    ' + message.replace('\n', '\n    ') + '\n')
    failures = sum(n for _, n in sums)
    print(f'fail matrix: {sum(n for n, _ in sums)} faults, {failures} failures')
    sys.exit(1 if failures else 0)


if __name__ == '__main__':
    main()
